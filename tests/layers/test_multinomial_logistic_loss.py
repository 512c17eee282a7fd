import math

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.multinomial_logistic_loss import MultinomialLogisticLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(MultinomialLogisticLoss, "", (4, 5), (4,), device=device)
    probabilities = noise(4, 5, device=device).detach().softmax(1).requires_grad_()
    check_layer(layer, probabilities, tensor([0, 4, 2, 2], device).detach())


def test_values() -> None:
    layer = make_layer(MultinomialLogisticLoss, "", (2, 3), (2, 1, 1, 1))
    (loss,) = run(layer, tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]), tensor([2.0, 1.0]).reshape(2, 1, 1, 1))
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_a_vanishing_probability_keeps_a_gradient() -> None:
    layer = make_layer(MultinomialLogisticLoss, "", (1, 2), (1,))
    bottom = tensor([[0.0, 1.0]])
    label = tensor([0.0]).detach()
    assert run(layer, bottom, label)[0].item() == pytest.approx(-math.log(1e-20))
    (grad,) = torch.autograd.grad(run(layer, bottom, label)[0], bottom)
    assert grad.tolist() == [[pytest.approx(-1e20), 0]]


@pytest.mark.parametrize("label", [-1.0, 3.0])
def test_refuses_a_label_out_of_range(label: float) -> None:
    with pytest.raises(NetError, match=r"label -?\d is out of range; expected 0 to 2"):
        run(make_layer(MultinomialLogisticLoss, "", (1, 3), (1,)), noise(1, 3), tensor([label]))


@pytest.mark.parametrize("labels", [(2,), (3, 2)])
def test_refusals(labels: tuple[int, ...]) -> None:
    with pytest.raises(NetError, match="expected"):
        make_layer(MultinomialLogisticLoss, "", (3, 4), labels)
