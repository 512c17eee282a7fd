import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.nms import Nms
from tests.layers.harness import make_layer, noise, on_devices, run

SHAPE = (2, 4, 12, 9)


def by_definition(maps: np.ndarray, parts: int, most: int, threshold: float) -> np.ndarray:
    """The fork's kernel, pixel by pixel."""
    top = np.zeros((len(maps), parts, most + 1, 3))
    for n, part in np.ndindex(len(maps), parts):
        values, found = maps[n, part], 0
        for y, x in np.ndindex(values.shape):
            if not (0 < y < values.shape[0] - 1 and 0 < x < values.shape[1] - 1) or values[y, x] <= threshold:
                continue
            around = values[y - 1 : y + 2, x - 1 : x + 2]
            if (around < values[y, x]).sum() < 8:
                continue
            found += 1
            if found <= most:
                rows, columns = (
                    [i for i in range(p - 3, p + 4) if 0 < i < size]
                    for p, size in zip((y, x), values.shape, strict=True)
                )
                mass = values[np.ix_(rows, columns)].clip(0)
                center_x, center_y = (mass * columns).sum() / mass.sum(), (mass.T * rows).sum() / mass.sum()
                top[n, part, found] = center_x, center_y, values[y, x]
        top[n, part, 0, 0] = found
    return top


@on_devices
@pytest.mark.parametrize("most", [2, 20])
def test_equals_the_definition(device: str, most: int) -> None:
    text = f"nms_param {{ threshold: 0.5 max_peaks: {most} num_parts: 3 }}"
    layer = make_layer(Nms, text, SHAPE, device=device)
    x = noise(*SHAPE, device=device)
    (top,) = run(layer, x)
    assert [top.shape] == layer.infer_shapes(SHAPE)
    assert not top.requires_grad
    expected = by_definition(x.detach().cpu().numpy(), 3, most, 0.5)
    assert expected[..., 0, 0].max() > 2
    np.testing.assert_allclose(top.cpu().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_without_a_peak() -> None:
    layer = make_layer(Nms, "nms_param { num_parts: 4 }", SHAPE)
    # A plateau has no peak.
    assert torch.equal(layer(torch.ones(SHAPE)), torch.zeros(2, 4, 21, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("num_parts: 5", "expected .* with at least num_parts, 5, channels"),
        ("num_peak: 5", "num_peak: Nms here does not read it; it is of an older form"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Nms, f"nms_param {{ {fields} }}", SHAPE)
