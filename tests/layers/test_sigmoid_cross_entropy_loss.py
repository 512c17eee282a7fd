import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.sigmoid_cross_entropy_loss import SigmoidCrossEntropyLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

TARGETS = [[0.0, 1.0, 0.25], [1.0, 0.0, 1.0]]


def make_loss(fields: str = "", device: str = "cpu") -> SigmoidCrossEntropyLoss:
    return make_layer(SigmoidCrossEntropyLoss, f"loss_param {{ {fields} }}", (2, 3), (2, 3), device=device)


@on_devices
@pytest.mark.parametrize(
    ("fields", "divisor"),
    [
        ("", 2),
        ("normalization: FULL", 6),
        ("normalization: VALID", 6),
        ("normalization: VALID ignore_label: 1", 3),
        ("normalization: NONE", 1),
        ("normalize: true ignore_label: 1", 3),
        ("normalize: false ignore_label: 1", 2),
        ("normalization: VALID ignore_label: 7", 6),
    ],
)
def test_layer(device: str, fields: str, divisor: int) -> None:
    layer, scores, targets = make_loss(fields, device), noise(2, 3, device=device), tensor(TARGETS, device).detach()
    check_layer(layer, scores, targets)
    p = scores.sigmoid()
    losses = -(targets * p.log() + (1 - targets) * (1 - p).log())
    if "ignore_label: 1" in fields:
        losses = losses[targets < 1]
    torch.testing.assert_close(run(layer, scores, targets)[0], losses.sum() / divisor)


def test_large_scores_stay_finite() -> None:
    scores = tensor([[1e4, -1e4, 0.0]])
    layer = make_layer(SigmoidCrossEntropyLoss, "", (1, 3), (1, 3))
    (loss,) = run(layer, scores, tensor([[0.0, 0.0, 0.0]]))
    assert loss.item() == pytest.approx(1e4 + 0.693147, rel=1e-6)
    assert torch.autograd.grad(loss, scores)[0].tolist() == [[1, 0, 0.5]]


def test_all_ignored_is_zero() -> None:
    (loss,) = run(make_loss("ignore_label: 1 normalization: VALID"), noise(2, 3), torch.ones(2, 3))
    assert loss.item() == 0


@pytest.mark.parametrize(("targets", "message"), [((3, 2), "same first dimension"), ((2, 2), "as many of each")])
def test_refusals(targets: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(SigmoidCrossEntropyLoss, "", (2, 3), targets)
