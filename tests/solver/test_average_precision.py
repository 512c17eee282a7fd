from pathlib import Path

import numpy as np
import pytest

from caffe_compat.solver.average_precision import VERSIONS, Verdicts, average_precision

GOLDEN = Path(__file__).parent.parent / "golden" / "forks" / "average_precision.npz"
#: float32, two units in the last place: C++ libraries differ in whether fabs is of float or double
TOLERANCE = 2.5e-7


def test_as_ssd() -> None:
    with np.load(GOLDEN) as file:
        data = dict(file)
    assert tuple(data["versions"]) == VERSIONS
    ends = np.cumsum(data["lengths"])
    for end, length, positives, expected in zip(
        ends, data["lengths"], data["positives"], data["expected"], strict=True
    ):
        scores, true = data["scores"][end - length : end], data["true"][end - length : end].astype(np.float32)
        found = [average_precision(scores, true, int(positives), version) for version in VERSIONS]
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_by_hand() -> None:
    """Hits at ranks 1 and 3 of 4 boxes: precision 1, 1/2, 2/3, recall 1/4, 1/4, 1/2."""
    scores, true = np.array([0.9, 0.5, 0.7], np.float32), np.array([1, 1, 0], np.float32)
    assert average_precision(scores, true, 4, "Integral") == pytest.approx(1 / 4 + 2 / 3 / 4)
    assert average_precision(scores, true, 4, "MaxIntegral") == pytest.approx(1 / 4 + 2 / 3 / 4)
    # recall 0, .1, .2 with precision 1, then .3, .4, .5 with 2/3
    assert average_precision(scores, true, 4, "11point") == pytest.approx((3 + 3 * 2 / 3) / 11)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_to_find_or_found(version: str) -> None:
    nothing = np.empty(0, np.float32)
    assert average_precision(nothing, nothing, 3, version) == 0
    assert average_precision(np.ones(2, np.float32), np.zeros(2, np.float32), 0, version) == 0


def test_verdicts_gather_batches() -> None:
    verdicts = Verdicts()
    head = [[-1, 1, 1, -1, -1], [-1, 2, 1, -1, -1], [-1, 3, 0, -1, -1]]
    verdicts.add(np.array([*head, [0, 1, 0.9, 1, 0], [0, 1, 0.8, 0, 0]], np.float32))  # the last on a difficult box
    verdicts.add(np.array([*head, [0, 1, 0.7, 1, 0], [0, 3, 0.5, 0, 1]], np.float32))
    assert verdicts.positives == {1: 2, 2: 2, 3: 0}
    found = verdicts.precision("Integral")
    assert found.labels == {1: 1.0, 2: None, 3: 0.0}
    assert found.mean == pytest.approx(1 / 3)


def test_no_batch() -> None:
    assert Verdicts().precision("Integral") == (0.0, {})
