import math

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.softmax import Softmax
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

#: float64 exponentials
TOLERANCE = 1e-12


@on_devices
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_is_the_definition(device: str, axis: int) -> None:
    layer = make_layer(Softmax, f"softmax_param {{ axis: {axis} }}", (2, 3, 4), device=device)
    x, g = noise(2, 3, 4, device=device), noise(2, 3, 4, device=device, seed=1).detach()
    (y,) = run(layer, x)
    (x_grad,) = torch.autograd.grad(y, x, g)
    columns = np.moveaxis(x.detach().cpu().numpy(), axis, -1)
    diffs = np.moveaxis(g.cpu().numpy(), axis, -1)
    expected, expected_grad = np.zeros(columns.shape), np.zeros(columns.shape)
    for place in np.ndindex(columns.shape[:-1]):
        powers = [math.exp(value) for value in columns[place]]
        p = np.array(powers) / sum(powers)
        expected[place] = p
        expected_grad[place] = p * (diffs[place] - sum(p * diffs[place]))
    for found, wanted in ((y, expected), (x_grad, expected_grad)):
        moved = np.moveaxis(found.detach().cpu().numpy(), axis, -1)
        np.testing.assert_allclose(moved, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def test_large_scores_do_not_overflow() -> None:
    (y,) = run(make_layer(Softmax, "", (1, 3)), tensor([[1000.0, 1000.0 - math.log(3), -1000.0]]))
    assert y.tolist()[0] == pytest.approx([0.75, 0.25, 0.0])


def test_one_class_has_probability_1() -> None:
    assert run(make_layer(Softmax, "", (2, 1, 2)), noise(2, 1, 2))[0].tolist() == [[[1, 1]], [[1, 1]]]


@on_devices
def test_layer(device: str) -> None:
    check_layer(make_layer(Softmax, "", (2, 3, 2), device=device), noise(2, 3, 2, device=device))


def test_refuses_an_axis_outside() -> None:
    with pytest.raises(NetError, match=r"softmax_param\.axis is 2; expected -2 to 1"):
        make_layer(Softmax, "softmax_param { axis: 2 }", (2, 3))
