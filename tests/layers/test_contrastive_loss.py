import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.contrastive_loss import ContrastiveLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

SHAPES = ((4, 3), (4, 3), (4,))
SIMILAR = [1.0, 0.0, 0.0, 1.0]


def make_loss(fields: str = "", device: str = "cpu") -> ContrastiveLoss:
    return make_layer(ContrastiveLoss, f"contrastive_loss_param {{ {fields} }}", *SHAPES, device=device)


@on_devices
# Caffe's gradient of d^2 divides by d + 1e-4: without a small margin only the legacy form is exact.
@pytest.mark.parametrize(
    "fields", ["margin: 9 legacy_version: true", "margin: 0.01 legacy_version: true", "margin: 0.01"]
)
def test_layer(device: str, fields: str) -> None:
    bottoms = noise(4, 3, device=device), noise(4, 3, device=device, seed=1)
    check_layer(make_loss(fields, device), *bottoms, tensor(SIMILAR, device).detach())


def test_values_and_gradient() -> None:
    a, b = tensor([[0.0, 3.0], [0.0, 3.0]]), tensor([[4.0, 0.0], [0.0, 0.0]])
    layer = make_loss("margin: 7")
    (loss,) = run(layer, a, b, tensor([1.0, 0.0]))
    # similar at distance 5, not similar at distance 3: (25 + (7 - 3)^2) / (2 * 2)
    assert loss.item() == pytest.approx((25 + 16) / 4)
    a_grad, b_grad = torch.autograd.grad(loss, (a, b))
    expected = torch.tensor([[-2.0, 1.5], [0.0, -0.5 * 3 * (7 - 3) / (3 + 1e-4)]], dtype=torch.float64)
    torch.testing.assert_close(a_grad, expected)
    torch.testing.assert_close(b_grad, -expected)


def test_equal_pairs_that_belong_apart_have_no_gradient() -> None:
    a = noise(4, 3)
    (loss,) = run(make_loss(), a, a.detach(), torch.zeros(4))
    assert loss.item() == pytest.approx(0.5)
    assert not torch.autograd.grad(loss, a)[0].any()


def test_labels_are_cut_to_whole_numbers() -> None:
    a, b = noise(4, 3), noise(4, 3, seed=1)
    assert torch.equal(make_loss()(a, b, torch.full((4,), 0.9)), make_loss()(a, b, torch.zeros(4)))


@pytest.mark.parametrize(
    "shapes",
    [((4, 3), (5, 3), (4,)), ((4, 3), (4, 3), (5,)), ((4, 3), (4, 2), (4,)), ((4, 3, 2), (4, 3, 2), (4,))],
)
def test_refusals(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(NetError, match="expected"):
        make_layer(ContrastiveLoss, "", *shapes)
