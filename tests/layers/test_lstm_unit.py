import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.lstm_unit import LSTMUnit
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

TOPS = 'top: "c" top: "h"'
SHAPES = ((1, 4, 3), (1, 4, 12), (1, 4))


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(LSTMUnit, TOPS, *SHAPES, device=device)
    bottoms = noise(1, 4, 3, device=device), noise(1, 4, 12, device=device, seed=1)
    check_layer(layer, *bottoms, tensor([[1, 0, 1, 0]], device).detach())


def test_values() -> None:
    c_prev, gates, cont = noise(1, 4, 3), noise(1, 4, 12, seed=1), tensor([[1.0, 0.0, 1.0, 0.0]])
    c, h = run(make_layer(LSTMUnit, TOPS, *SHAPES), c_prev, gates, cont)
    i, f, o, g = gates.chunk(4, -1)
    expected = cont.unsqueeze(-1) * f.sigmoid() * c_prev + i.sigmoid() * g.tanh()
    torch.testing.assert_close(c, expected)
    torch.testing.assert_close(h, o.sigmoid() * expected.tanh())


def test_a_fractional_cont_has_caffes_gradient() -> None:
    c_prev, gates, cont = noise(1, 1, 1), noise(1, 1, 4, seed=1), tensor([[0.5]])
    c, _ = run(make_layer(LSTMUnit, TOPS, (1, 1, 1), (1, 1, 4), (1, 1)), c_prev, gates, cont)
    (grad,) = torch.autograd.grad(c, gates)
    forget = 0.5 * gates[0, 0, 1].sigmoid()
    torch.testing.assert_close(grad[0, 0, 1], c_prev[0, 0, 0] * forget * (1 - forget))


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 3), (1, 4, 12), (1, 4)),
        ((1, 4, 3), (1, 4, 9), (1, 4)),
        ((1, 4, 3), (1, 4, 12), (4,)),
        ((2, 4, 3), (1, 4, 12), (1, 4)),
    ],
)
def test_refusals(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(NetError, match=r"expected \(1, N, H\), \(1, N, 4 H\) and \(1, N\)"):
        make_layer(LSTMUnit, TOPS, *shapes)
