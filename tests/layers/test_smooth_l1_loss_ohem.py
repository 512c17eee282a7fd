import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.smooth_l1_loss_ohem import SmoothL1LossOHEM
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

SHAPE = (3, 4, 2, 2)


def make_loss(fields: str, bottoms: int = 2, device: str = "cpu", shape: tuple[int, ...] = SHAPE) -> SmoothL1LossOHEM:
    text = f'top: "loss" top: "each" loss_param {{ {fields} }}'
    return make_layer(SmoothL1LossOHEM, text, *[shape] * bottoms, device=device)


@on_devices
@pytest.mark.parametrize(
    ("fields", "divisor"),
    [
        ("normalization: PRE_FIXED pre_fixed_normalizer: 2.5", 2.5),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 0.1", 1),
        ("", 12),
        ("normalization: FULL", 12),
        ("normalization: BATCH_SIZE", 3),
        ("normalization: NONE", 1),
    ],
)
def test_values(fields: str, divisor: float, device: str) -> None:
    data, target = noise(*SHAPE, device=device), noise(*SHAPE, device=device, seed=1)
    weights = noise(*SHAPE, device=device, seed=2).detach()
    loss, each = run(make_loss(fields, 3, device), data, target, weights)
    d = (weights * (data - target)).detach().cpu().numpy()
    terms = np.where(abs(d) < 1, 0.5 * d**2, abs(d) - 0.5)
    assert loss.item() == pytest.approx(terms.sum() / divisor)
    assert each.shape == (3, 1, 2, 2)
    np.testing.assert_allclose(each[:, 0].detach().cpu().numpy(), terms.sum(1))
    assert not each.requires_grad


def test_gradient_leaves_the_weight_out_as_in_rfcn() -> None:
    data, target = tensor([[0.5, 3.0, -3.0, 0.25]]), tensor([[0.0, 0.0, 0.0, 0.0]])
    weights = torch.tensor([[0.5, 0.5, 0.5, 0.0]], dtype=torch.float64)
    loss, each = run(make_loss("normalization: NONE", 3, shape=(1, 4)), data, target, weights)
    assert each.shape == (1, 1, 1, 1)
    gradients = torch.autograd.grad(loss, (data, target))
    assert gradients[0].tolist() == [[0.25, 1.0, -1.0, 0.0]]
    assert torch.equal(gradients[1], -gradients[0])


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(SmoothL1LossOHEM, "", SHAPE, SHAPE, device=device)
    check_layer(layer, noise(*SHAPE, device=device), noise(*SHAPE, device=device, seed=1))


def test_refused_shapes() -> None:
    with pytest.raises(NetError, match="expected the same shape"):
        make_layer(SmoothL1LossOHEM, "", (2, 3), (2, 4))
