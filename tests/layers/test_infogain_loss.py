from pathlib import Path

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.infogain_loss import InfogainLoss
from caffe_compat.proto import write_blob
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

SCORES, LABELS, MATRIX = (2, 3, 2), (2, 2), (1, 1, 3, 3)
TWO_TOPS = 'top: "loss" top: "p"'


def make_loss(text: str = "", device: str = "cpu") -> InfogainLoss:
    return make_layer(InfogainLoss, text, SCORES, LABELS, MATRIX, device=device)


def bottoms(device: str = "cpu") -> tuple[torch.Tensor, ...]:
    matrix = noise(*MATRIX, device=device, seed=1).detach()
    return noise(*SCORES, device=device), tensor([[0, 2], [1, 1]], device).detach(), matrix


@on_devices
@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 4),
        ("loss_param { ignore_label: 1 }", 2),
        ("loss_param { ignore_label: 1 normalization: FULL }", 4),
        ("loss_param { normalization: BATCH_SIZE }", 2),
        ("loss_param { normalization: NONE }", 1),
        ("infogain_loss_param { axis: -2 }", 4),
    ],
)
def test_layer(device: str, text: str, divisor: int) -> None:
    layer = make_loss(text, device)
    scores, labels, matrix = bottoms(device)
    check_layer(layer, scores, labels, matrix)
    expected = 0.0
    for n in range(2):
        for s in range(2):
            label = int(labels[n, s])
            if "ignore" not in text or label != 1:
                expected -= (matrix[0, 0, label] * scores[n, :, s].log_softmax(0)).sum().item()
    assert run(layer, scores, labels, matrix)[0].item() == pytest.approx(expected / divisor)


def test_second_top_has_the_probabilities() -> None:
    scores, labels, matrix = bottoms()
    _, p = run(make_loss(TWO_TOPS), scores, labels, matrix)
    torch.testing.assert_close(p, scores.softmax(1))
    assert not p.requires_grad


def test_the_identity_gives_the_softmax_loss() -> None:
    scores, labels, _ = bottoms()
    (loss,) = run(make_loss(), scores, labels, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, labels.long()))


def test_a_vanishing_probability_is_floored_but_keeps_its_gradient() -> None:
    layer = make_layer(InfogainLoss, "", (1, 2), (1,), (2, 2))
    scores = tensor([[-100.0, 100.0]])
    (loss,) = run(layer, scores, torch.zeros(1), torch.eye(2, dtype=torch.float64))
    assert loss.item() == pytest.approx(46.0517, abs=1e-4)  # -log(1e-20)
    assert torch.autograd.grad(loss, scores)[0].tolist() == [[pytest.approx(-1), pytest.approx(1)]]


def test_reads_the_matrix_from_a_file(tmp_path: Path) -> None:
    scores, labels, matrix = bottoms()
    write_blob(tmp_path / "h.binaryproto", matrix.float().numpy())
    text = f'infogain_loss_param {{ source: "{tmp_path / "h.binaryproto"}" }}'
    layer = make_layer(InfogainLoss, text, SCORES, LABELS)
    torch.testing.assert_close(
        run(layer, scores, labels), run(make_loss(), scores, labels, matrix.float().double()), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("", (SCORES, LABELS), "a third bottom, or the file infogain_loss_param.source"),
        ('infogain_loss_param { source: "no.such" }', (SCORES, LABELS), r"infogain_loss_param.source: .*no\.such"),
        ("loss_param { normalize: true }", (SCORES, LABELS, MATRIX), "normalize is not for this type"),
        ("", (SCORES, (2,), MATRIX), "2 labels"),
        ("", (SCORES, LABELS, (2, 3)), "6 values; expected 3 x 3"),
        ("infogain_loss_param { axis: 3 }", (SCORES, LABELS, MATRIX), "axis is 3"),
    ],
)
def test_refusals(text: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(InfogainLoss, text, *shapes)


def test_refuses_a_label_out_of_range() -> None:
    scores, _, matrix = bottoms()
    with pytest.raises(NetError, match="label 3 is out of range; expected 0 to 2"):
        run(make_loss(), scores, torch.full(LABELS, 3.0), matrix)
