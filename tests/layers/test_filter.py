import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.filter import Filter
from tests.layers.harness import make_layer, noise, on_devices, run, tensor

SHAPES = ((4, 3), (4, 2, 2), (4, 1))
TWO_TOPS = 'top: "a" top: "b"'


@on_devices
def test_keeps_the_selected_items(device: str) -> None:
    layer = make_layer(Filter, TWO_TOPS, *SHAPES, device=device)
    x, z = noise(4, 3, device=device), noise(4, 2, 2, device=device, seed=1)
    selector = tensor([[0], [2], [0], [-1]], device)
    a, b = run(layer, x, z, selector)
    assert torch.equal(a, x[[1, 3]])
    assert torch.equal(b, z[[1, 3]])
    x_grad, none = torch.autograd.grad(a.sum(), (x, selector), allow_unused=True)
    assert none is None
    assert x_grad.tolist() == [[0] * 3, [1] * 3, [0] * 3, [1] * 3]


def test_may_keep_nothing() -> None:
    layer = make_layer(Filter, TWO_TOPS, *SHAPES)
    a, b = run(layer, noise(4, 3), noise(4, 2, 2), torch.zeros(4, 1))
    assert (a.shape, b.shape) == ((0, 3), (0, 2, 2))


def test_shapes_before_the_data_is_known() -> None:
    assert make_layer(Filter, TWO_TOPS, *SHAPES).infer_shapes(*SHAPES) == [(4, 3), (4, 2, 2)]
    assert make_layer(Filter, TWO_TOPS, *SHAPES).no_gradient_bottoms == (2,)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 3), (4, 1)), "2 bottoms and 2 tops"),
        (((4, 3), (4, 2), (4, 2)), r"selector \(last bottom\) has shape \(4, 2\)"),
        (((4, 3), (3, 2), (4, 1)), "same first dimension"),
    ],
)
def test_refusals(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Filter, TWO_TOPS, *shapes)
