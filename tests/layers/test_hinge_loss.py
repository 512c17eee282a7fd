import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.hinge_loss import HingeLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_layer(device: str, norm: str) -> None:
    layer = make_layer(HingeLoss, f"hinge_loss_param {{ norm: {norm} }}", (4, 5), (4,), device=device)
    check_layer(layer, noise(4, 5, device=device), tensor([0, 4, 2, 2], device).detach())


@pytest.mark.parametrize(("norm", "loss"), [("L1", (0.5 + 1.5 + 0 + 3) / 2), ("L2", (0.25 + 2.25 + 0 + 9) / 2)])
def test_values(norm: str, loss: float) -> None:
    layer = make_layer(HingeLoss, f"hinge_loss_param {{ norm: {norm} }}", (2, 2), (2,))
    (top,) = run(layer, tensor([[0.5, 0.5], [-2.0, -2.0]]), tensor([0.0, 1.0]))
    assert top.item() == pytest.approx(loss)


def test_refuses_a_label_out_of_range() -> None:
    with pytest.raises(NetError, match="label 2 is out of range; expected 0 to 1"):
        run(make_layer(HingeLoss, "", (1, 2), (1,)), noise(1, 2), tensor([2.0]))


def test_refuses_another_batch_size() -> None:
    with pytest.raises(NetError, match="same first dimension"):
        make_layer(HingeLoss, "", (2, 3), (3,))
