import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.accuracy import Accuracy
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

TWO_TOPS = 'top: "accuracy" top: "per_class"'
#: three predictions over three classes; the last one ties classes 1 and 2
SCORES = [[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [0.0, 5.0, 5.0]]


def reference(scores: np.ndarray, labels: np.ndarray, top_k: int, ignore: int | None) -> tuple[float, list[float]]:
    """Right when fewer than ``top_k`` other classes score at least as much as the label's; scores (N, C, H)."""
    right, seen = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for n in range(scores.shape[0]):
        for h in range(scores.shape[2]):
            label = int(labels[n, h])
            if label == ignore:
                continue
            own = scores[n, label, h]
            others = sum(scores[n, c, h] >= own for c in range(scores.shape[1]) if c != label)
            seen[label] += 1
            right[label] += others < top_k
    return right.sum() / max(1, seen.sum()), [float(r / max(1, s)) for r, s in zip(right, seen, strict=True)]


@on_devices
@pytest.mark.parametrize(
    ("fields", "labels", "accuracy"),
    [
        ("", [0, 1, 2], 2 / 3),  # a tie is wrong
        ("accuracy_param { top_k: 2 }", [0, 2, 1], 1.0),
        ("accuracy_param { top_k: 2 }", [2, 0, 0], 0.0),
        ("accuracy_param { top_k: 3 }", [2, 0, 0], 1.0),
        ("accuracy_param { ignore_label: 2 }", [0, 0, 2], 1 / 2),
        ("accuracy_param { ignore_label: 1 }", [1, 1, 1], 0.0),  # nothing counts: 0, no division by 0
    ],
)
def test_values(device: str, fields: str, labels: list[int], accuracy: float) -> None:
    layer = make_layer(Accuracy, fields, (3, 3), (3,), device=device)
    (top,) = run(layer, tensor(SCORES, device), tensor(labels, device).detach())
    assert top.item() == pytest.approx(accuracy)


def test_per_class_of_a_class_without_labels_is_0() -> None:
    layer = make_layer(Accuracy, TWO_TOPS, (3, 3), (3,))
    accuracy, per_class = run(layer, tensor(SCORES), tensor([0, 2, 0]).detach())
    assert accuracy.item() == pytest.approx(1 / 3)
    assert per_class.tolist() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize(("top_k", "ignore"), [(1, None), (2, None), (1, 3), (3, 0)])
def test_is_the_definition(top_k: int, ignore: int | None) -> None:
    generator = np.random.default_rng(0)
    # Few different scores, so that many tie.
    scores, labels = generator.integers(0, 4, (5, 4, 3)).astype(float), generator.integers(0, 4, (5, 3))
    fields = f"top_k: {top_k}" + ("" if ignore is None else f" ignore_label: {ignore}")
    layer = make_layer(Accuracy, f"{TWO_TOPS} accuracy_param {{ {fields} }}", (5, 4, 3), (5, 3))
    accuracy, per_class = run(layer, torch.from_numpy(scores), torch.from_numpy(labels).double())
    expected, expected_per_class = reference(scores, labels, top_k, ignore)
    assert accuracy.item() == pytest.approx(expected)
    assert per_class.tolist() == pytest.approx(expected_per_class)


def test_axis() -> None:
    layer = make_layer(Accuracy, "accuracy_param { axis: -1 }", (3, 3), (3,))
    assert run(layer, tensor(SCORES), tensor([0, 1, 2]).detach())[0].item() == pytest.approx(2 / 3)
    layer = make_layer(Accuracy, "accuracy_param { axis: 0 }", (3, 3), (3,))
    columns = np.array(SCORES).T.tolist()
    assert run(layer, tensor(columns), tensor([0, 1, 2]).detach())[0].item() == pytest.approx(2 / 3)


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(Accuracy, TWO_TOPS, (4, 5, 2), (4, 2), device=device)
    labels = tensor([[0, 4], [1, 1], [2, 3], [3, 0]], device).detach()
    check_layer(layer, noise(4, 5, 2, device=device), labels, differentiable=False)


def test_has_no_backward() -> None:
    assert not Accuracy.has_backward
    assert make_layer(Accuracy, "", (2, 7), (2,)).index_limits((2, 7), (2,)) == {1: 7}


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", ((3, 5), (4,)), "4 labels"),
        ("accuracy_param { top_k: 6 }", ((3, 5), (3,)), "top_k is 6; there are only 5 classes"),
        ("accuracy_param { axis: 2 }", ((3, 5), (3,)), "axis is 2"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Accuracy, fields, *shapes)
