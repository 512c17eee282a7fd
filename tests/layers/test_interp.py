import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.interp import Interp
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

BOTTOM = (2, 2, 5, 4)


def interpolated(bottom: Tensor, height: int, width: int) -> np.ndarray:
    """The definition, value by value: row y of the top lies at y (H - 1) / (H' - 1) of the bottom."""
    x = bottom.detach().cpu().numpy()
    top = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        y = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
        above, below = int(y), min(int(y) + 1, x.shape[2] - 1)
        for j in range(width):
            z = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
            left, right = int(z), min(int(z) + 1, x.shape[3] - 1)
            upper = (1 - z + left) * x[:, :, above, left] + (z - left) * x[:, :, above, right]
            lower = (1 - z + left) * x[:, :, below, left] + (z - left) * x[:, :, below, right]
            top[:, :, i, j] = (1 - y + above) * upper + (y - above) * lower
    return top


@on_devices
@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("height: 7 width: 3", (7, 3)),
        ("height: 1 width: 9", (1, 9)),
        ("zoom_factor: 2", (9, 7)),
        ("shrink_factor: 2", (3, 2)),
        ("shrink_factor: 2 zoom_factor: 3", (7, 4)),
        ("shrink_factor: 2 zoom_factor: 3 height: 6 width: 5", (6, 5)),
        ("zoom_factor: 2 height: 6 width: 5", (9, 7)),
        ("height: 6", None),
    ],
)
def test_layer(device: str, fields: str, sizes: tuple[int, int] | None) -> None:
    if sizes is None:
        with pytest.raises(NetError, match="interp_param needs height and width, or zoom_factor, or shrink_factor"):
            make_layer(Interp, f"interp_param {{ {fields} }}", BOTTOM)
        return
    layer = make_layer(Interp, f"interp_param {{ {fields} }}", BOTTOM, device=device)
    bottom = noise(*BOTTOM, device=device)
    expected = interpolated(bottom, *sizes)
    assert layer.infer_shapes(BOTTOM) == [expected.shape]
    np.testing.assert_allclose(run(layer, bottom)[0].detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


@on_devices
def test_negative_pads_crop(device: str) -> None:
    layer = make_layer(Interp, "interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }", (1, 1, 5, 6), device=device)
    bottom = noise(1, 1, 5, 6, device=device)
    check_layer(layer, bottom)
    top = run(layer, bottom)[0].detach().cpu().numpy()
    np.testing.assert_allclose(top, interpolated(bottom[:, :, 1:3, 1:4], 3, 5), rtol=1e-9, atol=1e-12)


@on_devices
@pytest.mark.parametrize("fields", ["", "use_blob_size: true"])
def test_the_size_of_a_second_bottom(device: str, fields: str) -> None:
    like = (1, 3, 7, 3)
    layer = make_layer(Interp, f"interp_param {{ {fields} }}", BOTTOM, like, device=device)
    bottom, other = noise(*BOTTOM, device=device), noise(*like, device=device)
    assert layer.infer_shapes(BOTTOM, like) == [(2, 2, 7, 3)]
    (top,) = run(layer, bottom, other)
    np.testing.assert_allclose(top.detach().cpu().numpy(), interpolated(bottom, 7, 3), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ("zoom_factor: 2", [BOTTOM, BOTTOM], "has 2 bottoms, and interp_param gives zoom_factor; expected the second"),
        ("use_blob_size: false", [BOTTOM, BOTTOM], "gives use_blob_size: false"),
        ("use_blob_size: true", [BOTTOM], "expected a second bottom"),
        ("", [BOTTOM, (2, 3)], r"bottom 1 has shape \(2, 3\)"),
    ],
)
def test_refuses_two_sizes(fields: str, bottoms: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Interp, f"interp_param {{ {fields} }}", *bottoms)


def test_value() -> None:
    layer = make_layer(Interp, "interp_param { height: 3 width: 3 }", (1, 1, 2, 2))
    top = run(layer, tensor([[[[0.0, 1.0], [2.0, 3.0]]]]))[0]
    assert torch.equal(top[0, 0], tensor([[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("height: 3 width: 3 pad_beg: 1", "pad_beg 1 and pad_end 0; expected 0 or less"),
        ("height: 0 width: 3", "a size or factor below 1"),
        ("zoom_factor: 0", "a size or factor below 1"),
        ("zoom_factor: 2 pad_beg: -2 pad_end: -2", "more than the 4 cropped away"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Interp, f"interp_param {{ {fields} }}", BOTTOM)


@pytest.mark.parametrize("fields", ["height: 7 width: 3", "zoom_factor: 3 pad_beg: -1 pad_end: -1", "shrink_factor: 2"])
def test_onnx(fields: str) -> None:
    check_onnx(f'type: "Interp" interp_param {{ {fields} }}', numbers(2, 2, 5, 6))


def test_onnx_of_a_second_bottom() -> None:
    check_onnx('type: "Interp" interp_param { use_blob_size: true }', numbers(2, 2, 5, 6), numbers(1, 3, 4, 9))
