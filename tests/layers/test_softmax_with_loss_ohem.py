import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.softmax_with_loss_ohem import SoftmaxWithLossOHEM
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

SHAPES = ((4, 3, 2), (4, 1, 2))
LABELS = [[[0.0, 1.0]], [[2.0, 2.0]], [[1.0, 0.0]], [[0.0, 0.0]]]
THREE = 'top: "loss" top: "prob" top: "each"'


def make_loss(fields: str, device: str = "cpu") -> SoftmaxWithLossOHEM:
    return make_layer(SoftmaxWithLossOHEM, f"{THREE} loss_param {{ {fields} }}", *SHAPES, device=device)


@on_devices
@pytest.mark.parametrize(
    ("fields", "divisor"),
    [
        ("normalization: PRE_FIXED pre_fixed_normalizer: 2.5", 2.5),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 0.25", 1),
        ("ignore_label: 0", 4),
        ("normalization: FULL", 8),
        ("normalize: false", 4),
        ("normalization: NONE", 1),
    ],
)
def test_values(fields: str, divisor: float, device: str) -> None:
    scores = noise(*SHAPES[0], device=device)
    loss, prob, each = run(make_loss(fields, device), scores, tensor(LABELS, device).detach())
    powers = np.exp(scores.detach().cpu().numpy())
    expected = powers / powers.sum(1, keepdims=True)
    losses = np.array(
        [[-np.log(expected[n, int(label), i]) for i, label in enumerate(row[0])] for n, row in enumerate(LABELS)]
    )
    if "ignore" in fields:
        losses[np.array(LABELS)[:, 0] == 0] = 0
    np.testing.assert_allclose(prob.cpu().numpy(), expected)
    assert each.shape == SHAPES[1]
    np.testing.assert_allclose(each[:, 0].cpu().numpy(), losses, atol=1e-15)
    assert loss.item() == pytest.approx(losses.sum() / divisor)
    assert not prob.requires_grad
    assert not each.requires_grad


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(
        SoftmaxWithLossOHEM, "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 3 }", *SHAPES, device=device
    )
    check_layer(layer, noise(*SHAPES[0], device=device), tensor(LABELS, device).detach())


def test_refused_shapes() -> None:
    with pytest.raises(NetError, match=r"4 labels \(shape \(4, 1\)\) for 8 predictions"):
        make_layer(SoftmaxWithLossOHEM, "", SHAPES[0], (4, 1))


def test_refused_labels() -> None:
    with pytest.raises(NetError, match="label 3 is out of range; expected 0 to 2"):
        run(make_loss(""), noise(*SHAPES[0]), torch.full(SHAPES[1], 3.0))
