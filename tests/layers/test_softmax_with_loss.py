import math
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.shared.log_loss import LOG_FLT_MIN
from caffe_compat.layers.softmax_with_loss import SoftmaxWithLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

#: float64 exponentials and sums
TOLERANCE = 1e-12
LABELS = [[0, 2, 1], [1, 1, 3]]


def reference(x: np.ndarray, labels: np.ndarray, mode: str, ignore: int | None) -> tuple[float, np.ndarray]:
    """Loss and its gradient for scores (N, C, H): the sums of -log p[label] and p - onehot over the mode's divisor."""
    loss, counted, grad = 0.0, 0, np.zeros(x.shape)
    outer, _, inner = x.shape
    for n in range(outer):
        for h in range(inner):
            label = int(labels[n, h])
            if label == ignore:
                continue
            powers = [math.exp(value) for value in x[n, :, h]]
            p = np.array(powers) / sum(powers)
            loss -= math.log(p[label])
            grad[n, :, h] = p
            grad[n, label, h] -= 1
            counted += 1
    divisor = {"VALID": max(1, counted), "FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode]
    return loss / divisor, grad / divisor


@on_devices
@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", [None, 1, 3])
def test_is_the_definition(device: str, mode: str, ignore: int | None) -> None:
    fields = f"normalization: {mode}" + ("" if ignore is None else f" ignore_label: {ignore}")
    layer = make_layer(SoftmaxWithLoss, f"loss_param {{ {fields} }}", (2, 4, 3), (2, 3), device=device)
    x = noise(2, 4, 3, device=device)
    (loss,) = run(layer, x, tensor(LABELS, device).detach())
    (grad,) = torch.autograd.grad(loss, x, torch.tensor(2.0, dtype=torch.float64, device=device))
    expected, expected_grad = reference(x.detach().cpu().numpy(), np.array(LABELS), mode, ignore)
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE)
    np.testing.assert_allclose(grad.cpu().numpy(), 2 * expected_grad, rtol=TOLERANCE, atol=TOLERANCE)


def test_by_hand() -> None:
    layer = make_layer(SoftmaxWithLoss, "", (2, 2), (2,))
    x = tensor([[0.0, math.log(3)], [math.log(4), 0.0]])  # probabilities 1/4, 3/4 and 4/5, 1/5
    (loss,) = run(layer, x, tensor([0.0, 0.0]).detach())
    assert loss.item() == pytest.approx((math.log(4) + math.log(5 / 4)) / 2)
    loss.backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx([-3 / 8, 3 / 8, -1 / 10, 1 / 10])


def test_the_old_flag_normalize() -> None:
    for flag, divisor in (("true", 4), ("false", 2)):
        text = f"loss_param {{ normalize: {flag} ignore_label: 1 }}"
        layer = make_layer(SoftmaxWithLoss, text, (2, 4, 3), (2, 3))
        (loss,) = run(layer, torch.zeros(2, 4, 3, dtype=torch.float64), tensor(LABELS).detach())
        # Of six labels three are ignored; each other term is log 4.
        assert loss.item() == pytest.approx(3 * math.log(4) / (3 if flag == "true" else divisor))


def test_everything_ignored_is_0() -> None:
    layer = make_layer(SoftmaxWithLoss, "loss_param { ignore_label: 5 }", (2, 3), (2,))
    x = noise(2, 3)
    (loss,) = run(layer, x, tensor([5.0, 5.0]).detach())
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_probabilities_have_a_floor_and_a_gradient_below_it() -> None:
    layer = make_layer(SoftmaxWithLoss, "", (1, 2), (1,))
    x = tensor([[0.0, 1000.0]])
    (loss,) = run(layer, x, tensor([0.0]).detach())
    assert loss.item() == pytest.approx(-math.log(2.0**-126)) == -LOG_FLT_MIN
    loss.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize(("axis", "flat"), [(0, (1, 3, 12)), (2, (12, 3, 1)), (-1, (12, 3, 1))])
def test_axis(axis: int, flat: tuple[int, ...]) -> None:
    x, labels = noise(3, 4, 3), np.arange(12) % 3
    text = f"softmax_param {{ axis: {axis} }} loss_param {{ normalization: NONE }}"
    (loss,) = run(make_layer(SoftmaxWithLoss, text, (3, 4, 3), (3, 4)), x, torch.from_numpy(labels.reshape(3, 4)))
    expected, _ = reference(x.detach().numpy().reshape(flat), labels.reshape(flat[0], flat[2]), "NONE", None)
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE)


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(SoftmaxWithLoss, "loss_param { ignore_label: 1 }", (2, 4, 3), (2, 3), device=device)
    check_layer(layer, noise(2, 4, 3, device=device), tensor(LABELS, device).detach())


def test_labels_get_no_gradient() -> None:
    assert SoftmaxWithLoss.no_gradient_bottoms == (1,)
    assert make_layer(SoftmaxWithLoss, "", (2, 7), (2,)).index_limits((2, 7), (2,)) == {1: 7}


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("", ((2, 3), (3,)), "expected the same first dimension"),
        ("", ((2, 3, 4), (2, 3)), "6 labels .* for 8 predictions .* from 0 to 2"),
        ("softmax_param { axis: 2 }", ((2, 3), (2,)), "axis is 2"),
        ('top: "loss" top: "prob"', ((2, 3), (2,)), "a second top .* is refused by Caffe 1.0 too"),
    ],
)
def test_refusals(text: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(SoftmaxWithLoss, text, *shapes)


SEGNET = "loss_param { weight_by_label_freqs: true class_weighting: 0.5 class_weighting: 2 class_weighting: 1 }"


@on_devices
def test_segnets_class_weights(device: str) -> None:
    """Each loss times its label's weight, over the number of labels as ever."""
    layer = make_layer(SoftmaxWithLoss, SEGNET, (2, 3, 2), (2, 2), device=device)
    scores = noise(2, 3, 2, device=device)
    labels = torch.tensor([[0.0, 1.0], [2.0, 1.0]], device=device)
    log_p = scores.detach().log_softmax(1)
    each = [-log_p[0, 0, 0] * 0.5, -log_p[0, 1, 1] * 2, -log_p[1, 2, 0], -log_p[1, 1, 1] * 2]
    assert run(layer, scores, labels)[0].item() == pytest.approx(float(sum(each)) / 4)
    assert torch.autograd.gradcheck(lambda x: layer(x, labels), (scores,))


def test_class_weights_that_do_not_fit() -> None:
    with pytest.raises(NetError, match=r"3 class weights for 4 classes"):
        make_layer(SoftmaxWithLoss, SEGNET, (2, 4), (2,))
    with pytest.warns(UserWarning, match="class_weighting has no effect without weight_by_label_freqs"):
        make_layer(SoftmaxWithLoss, "loss_param { class_weighting: 2 }", (2, 4), (2,))


def test_deeplabs_labels_and_weights(tmp_path: Path) -> None:
    """Several labels are ignored; the loss is divided by the sum of the weights."""
    (tmp_path / "weights.txt").write_text("0.5 2\n1 4")
    fields = f'softmaxloss_param {{ ignore_label: 255 ignore_label: 1 weight_source: "{tmp_path}/weights.txt" }}'
    layer = make_layer(SoftmaxWithLoss, fields, (1, 4, 5), (1, 5))
    scores, labels = noise(1, 4, 5), torch.tensor([[255.0, 0.0, 1.0, 3.0, 2.0]])
    log_p = scores.detach().log_softmax(1)[0]
    expected = -(0.5 * log_p[0, 1] + 4 * log_p[3, 3] + log_p[2, 4]) / 5.5
    assert run(layer, scores, labels)[0].item() == pytest.approx(float(expected))
    assert torch.autograd.gradcheck(lambda x: layer(x, labels), (scores,))
    assert run(layer, scores, torch.full((1, 5), 255.0))[0].item() == 0


def test_weights_of_both_forks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("1 -1 1")
    source = f'softmaxloss_param {{ weight_source: "{tmp_path}/weights.txt" }}'
    with pytest.raises(NetError, match="weights below 0"):
        make_layer(SoftmaxWithLoss, source, (2, 3), (2,))
    with pytest.raises(NetError, match=r"weight_by_label_freqs .* and softmaxloss_param.weight_source"):
        make_layer(SoftmaxWithLoss, source + SEGNET, (2, 3), (2,))
    with pytest.raises(NetError, match="No such file"):
        make_layer(SoftmaxWithLoss, 'softmaxloss_param { weight_source: "/no/such/file" }', (2, 3), (2,))
