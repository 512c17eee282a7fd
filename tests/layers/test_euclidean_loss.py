import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.euclidean_loss import EuclideanLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("second", [(3, 2, 2), (3, 4)])
def test_layer(device: str, second: tuple[int, ...]) -> None:
    layer = make_layer(EuclideanLoss, "", (3, 2, 2), second, device=device)
    check_layer(layer, noise(3, 2, 2, device=device), noise(*second, device=device, seed=1))


def test_value_and_both_gradients() -> None:
    a, b = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[0.0, 0.0], [3.0, 2.0]])
    (loss,) = run(make_layer(EuclideanLoss, "", (2, 2), (2, 2)), a, b)
    assert loss.item() == (1 + 4 + 4) / 4
    a_grad, b_grad = torch.autograd.grad(loss, (a, b))
    assert a_grad.tolist() == [[0.5, 1], [0, 1]]
    assert torch.equal(b_grad, -a_grad)


@pytest.mark.parametrize(("second", "message"), [((3, 4), "same first dimension"), ((2, 3), "as many values per item")])
def test_refusals(second: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(EuclideanLoss, "", (2, 4), second)
