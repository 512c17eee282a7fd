import numpy as np
import numpy.typing as npt
import pytest
import torch

from caffe_compat.layers.shared.box_matching import match, suppress
from caffe_compat.layers.shared.boxes import overlaps
from tests.layers.harness import on_devices

Array = npt.NDArray[np.float64]


def matched_plainly(shared: Array, threshold: float | None, ignored: list[bool]) -> tuple[list[int], list[float]]:
    """SSD's MatchBBox, pair by pair."""
    pairs = {(i, j): v for (i, j), v in np.ndenumerate(shared) if v > 1e-6 and not ignored[i]}
    places = [-2 if i else -1 for i in ignored]
    largest = [max((v for (i, _), v in pairs.items() if i == p), default=0.0) for p in range(len(shared))]
    pool = set(range(shared.shape[1]))
    while pool:
        open_pairs = [(-v, i, j) for (i, j), v in pairs.items() if j in pool and places[i] == -1]
        if not open_pairs:
            break
        value, i, j = min(open_pairs)
        places[i], largest[i] = j, -value
        pool.remove(j)
    for i in range(len(shared)):
        near = [(-v, j) for (p, j), v in pairs.items() if p == i and threshold is not None and v >= threshold]
        if places[i] == -1 and near:
            places[i] = min(near)[1]
    return places, largest


@on_devices
@pytest.mark.parametrize("threshold", [None, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_match_is_ssds(seed: int, threshold: float | None, device: str) -> None:
    rng = np.random.default_rng(seed)
    # quarters: many equal overlaps, whose order counts
    shared = rng.integers(0, 5, (8, 4)) / 4 * (rng.random((8, 4)) < 0.7)
    ignored = (rng.random(8) < 0.2).tolist()
    given = torch.tensor(shared, device=device)
    places, largest = match(given, threshold, torch.tensor(ignored, device=device))
    expected = matched_plainly(shared, threshold, ignored)
    assert (places.tolist(), largest.tolist()) == expected
    assert torch.equal(given.cpu(), torch.tensor(shared))


def test_match_without_truths() -> None:
    places, largest = match(torch.zeros(3, 0), 0.5)
    assert places.tolist() == [-1] * 3
    assert largest.tolist() == [0] * 3


def suppressed_plainly(boxes: torch.Tensor, scores: list[float], threshold: float, top_k: int) -> list[int]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    order = order[:top_k] if top_k >= 0 else order
    kept: list[int] = []
    for i in order:
        sides = boxes[i, 2:] - boxes[i, :2]
        if sides.prod() >= 1e-5 and all(float(overlaps(boxes[i], boxes[k])) <= threshold for k in kept):
            kept.append(i)
    return kept


@on_devices
@pytest.mark.parametrize("top_k", [-1, 0, 5])
def test_suppress_is_greedy(top_k: int, device: str) -> None:
    rng = np.random.default_rng(top_k + 1)
    low = rng.uniform(0, 0.5, (12, 2))
    boxes = torch.tensor(np.concatenate((low, low + rng.uniform(0.2, 0.4, (12, 2))), 1))
    boxes[3, 2:] = boxes[3, :2] + 1e-3  # too small to count
    scores = (rng.integers(0, 6, 12) / 2).tolist()
    found = suppress(boxes.to(device), torch.tensor(scores, device=device), 0.3, top_k)
    assert list(found) == suppressed_plainly(boxes, scores, 0.3, top_k)
