import numpy as np
import pytest
import torch

from caffe_compat.layers.shared import suppression

Boxes = np.ndarray


def random_boxes(number: int, seed: int = 0) -> Boxes:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (number, 2))
    return suppression.with_areas(
        np.concatenate((corner, corner + rng.uniform(0, 0.4, (number, 2))), 1).astype(np.float32)
    )


def one_by_one(boxes: Boxes, threshold: float, most: int, eta: float, touching: bool) -> list[int]:
    """The definition: each box against all that stay before it."""
    kept: list[int] = []
    limit = np.float32(threshold)
    for i in range(len(boxes)):
        overlaps = [suppression.jaccard(boxes[j][:, None], boxes[i][:, None])[0] for j in kept]
        if len(kept) < most and all(o < limit if touching else o <= limit for o in overlaps):
            kept.append(i)
            limit = limit * np.float32(eta) if eta < 1 and limit > 0.5 else limit
    return kept


@pytest.mark.parametrize("number", [0, 1, 40, 150])
@pytest.mark.parametrize(("threshold", "eta"), [(0.05, 1), (0.3, 1), (0.8, 0.9)])
@pytest.mark.parametrize("most", [3, 1000])
def test_suppress(number: int, threshold: float, eta: float, most: int) -> None:
    boxes = random_boxes(number)
    expected = one_by_one(boxes, threshold, most, eta, False)
    assert suppression.suppress(boxes, threshold, eta=eta, most=most).tolist() == expected


def test_suppress_by_as_much_as_the_threshold() -> None:
    # Two boxes of 2 by 2 that share half of each: 2 / 6.
    boxes = suppression.with_areas(np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [9, 9, 9, 9]]))
    third = 1 / 3
    assert suppression.suppress(boxes, third).tolist() == [0, 1, 2]
    assert suppression.suppress(boxes, third, touching=True).tolist() == [0, 2]
    for touching in (False, True):
        many = random_boxes(150, seed=1)
        assert suppression.suppress(many, 0.3, touching=touching).tolist() == one_by_one(many, 0.3, 1000, 1, touching)


def test_an_overlap_that_is_not_a_number_is_too_much() -> None:
    # Offsets that are too large give edges without end; SSD asks whether the overlap is at most the threshold.
    wide = [-np.inf, -np.inf, np.inf, np.inf]
    boxes = suppression.with_areas(np.array([wide, wide, [5, 5, 6, 6]], np.float32))
    assert suppression.suppress(boxes, 0.5).tolist() == [0, 2]


def test_overlaps() -> None:
    a, b, touching, turned = [0.0, 0, 4, 4], [2, 2, 6, 5], [4, 0, 6, 4], [3, 3, 1, 1]
    boxes = suppression.with_areas(np.array([a, b, touching, turned])).T
    with np.errstate(invalid="ignore"):
        found = suppression.jaccard(boxes[:, :, None], boxes[:, None, :])
    assert found[0].tolist() == [1, 4 / (16 + 12 - 4), 0, 0]
    assert found[3].tolist()[:3] == [0, 0, 0]
    # Nothing over nothing is no number, but no reason to go, either.
    assert suppression.suppress(boxes.T, 0).tolist() == [0, 2, 3]
    pixels = suppression.with_areas(np.array([a, b, touching, [4.5, 0, 6, 4]]), pixels=True).T
    found = suppression.pixel_jaccard(pixels[:, :, None], pixels[:, None, :])
    assert found[0].tolist() == [1, 9 / (25 + 20 - 9), 5 / (25 + 15 - 5), 0]


@pytest.mark.parametrize("most", [-1, 0, 1, 3, 5, 9])
def test_best_first(most: int) -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.9])
    expected = [1, 4, 0, 2, 3]
    assert suppression.best_first(scores, most).tolist() == (expected if most < 0 else expected[:most])


def test_on_host() -> None:
    def count_positive(values: torch.Tensor) -> torch.Tensor:
        return torch.tensor(int((values > 0).sum()))

    def work(values: torch.Tensor) -> torch.Tensor:
        return suppression.on_host(count_positive, values) + 1

    values = torch.tensor([1.0, -1, 2])
    assert work(values) == 3
    assert torch.compile(work, backend="eager")(values) == 3
    torch.compiler.reset()
