import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.reorg import Reorg
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run


def by_definition(values: np.ndarray, shape: tuple[int, ...], stride: int, reverse: bool) -> np.ndarray:
    """darknet's loop: ``shape`` is the bottom's, whose memory it reads in two ways."""
    n, c, h, w = shape
    flat, top, part = values.flatten(), np.empty(values.size), c // stride**2
    for b, k, j, i in np.ndindex(n, c, h, w):
        small = i + w * (j + h * (k + c * b))
        row, column = j * stride + k // part // stride, i * stride + k // part % stride
        large = column + w * stride * (row + h * stride * (k % part + part * b))
        if reverse:
            top[large] = flat[small]
        else:
            top[small] = flat[large]
    return top


@on_devices
@pytest.mark.parametrize(("stride", "shape"), [(2, (2, 8, 4, 6)), (3, (1, 9, 3, 6)), (1, (1, 2, 3, 2))])
@pytest.mark.parametrize("reverse", [False, True])
def test_layer(device: str, stride: int, shape: tuple[int, ...], reverse: bool) -> None:
    text = f"reorg_param {{ stride: {stride} reverse: {str(reverse).lower()} }}"
    layer = make_layer(Reorg, text, shape, device=device)
    x = noise(*shape, device=device)
    check_layer(layer, x)
    expected = by_definition(x.detach().cpu().numpy(), shape, stride, reverse)
    assert np.array_equal(run(layer, x)[0].detach().cpu().numpy().flatten(), expected)


def test_sizes() -> None:
    assert make_layer(Reorg, "reorg_param { stride: 2 }", (1, 4, 4, 6)).infer_shapes((1, 4, 4, 6)) == [(1, 16, 2, 3)]
    reverse = make_layer(Reorg, "reorg_param { stride: 2 reverse: true }", (1, 16, 2, 3))
    assert reverse.infer_shapes((1, 16, 2, 3)) == [(1, 4, 4, 6)]


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("", (1, 4, 2, 2), "reorg_param.stride is 0; expected at least 1"),
        ("stride: 2", (1, 6, 2, 2), "expected channels in multiples of 4, height and width of 2"),
        ("stride: 2", (1, 4, 3, 2), "expected channels in multiples of 4, height and width of 2"),
        ("stride: 2", (1, 4), r"bottom has shape \(1, 4\); expected \(N, C, H, W\)"),
    ],
)
def test_refusals(fields: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Reorg, f"reorg_param {{ {fields} }}", shape)
