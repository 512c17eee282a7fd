"""The average precision of detections, as SSD's solver reports it for each class and in the mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
VERSIONS = ("11point", "MaxIntegral", "Integral")
_SAME_RECALL = np.float32(1e-6)
COLUMNS = 5  # of a row of DetectionEvaluate: item, label, score, true positive, false positive


class Precision(NamedTuple):
    """What a test pass found for one output: the mean, and of each label, None where nothing was detected."""

    mean: float
    labels: dict[int, float | None]


@dataclass
class Verdicts:
    """The rows of DetectionEvaluate, gathered over the batches of a test pass."""

    positives: dict[int, int] = field(default_factory=dict)  # of each label: boxes of the ground truth
    rows: list[Array] = field(default_factory=list)

    def add(self, rows: Array) -> None:
        """Take the (R, 5) rows of one batch."""
        counts = rows[:, 0].astype(np.int64) == -1
        for _, label, number, *_ in rows[counts].astype(np.int64).tolist():
            self.positives[label] = self.positives.get(label, 0) + number
        self.rows.append(rows[~counts & rows[:, 3:].any(1)])  # without the hits of boxes that do not count

    def precision(self, version: str) -> Precision:
        """The average precision over the labels; one without detections counts as 0."""
        rows = np.concatenate([np.empty((0, COLUMNS), np.float32), *self.rows])
        labels = rows[:, 1].astype(np.int64)
        found: dict[int, float | None] = {}
        for label, positives in sorted(self.positives.items()):
            own = rows[labels == label]
            found[label] = average_precision(own[:, 2], own[:, 3], positives, version) if len(own) else None
        total = np.float32(0)
        for value in found.values():
            total += np.float32(value or 0)
        return Precision(float(total / np.float32(max(1, len(found)))), found)


def average_precision(scores: Array, true: Array, positives: int, version: str) -> float:
    """The area under precision over recall, or 0 without ``positives`` (boxes of the ground truth).

    ``scores`` (D) of detections and ``true`` (D): 1 for a true one, else 0.  ``version``: 11point (VOC 2007: the mean
    of the largest precision from each tenth of recall on), MaxIntegral (VOC 2012, ILSVRC: precision made to fall),
    Integral (as it is).  In float32, step by step as SSD's ComputeAP.
    """
    if not len(scores) or not positives:
        return 0.0
    hits = np.cumsum(true[np.argsort(-scores, kind="stable")].astype(np.int64))
    precision: Array = (hits.astype(np.float32) / np.arange(1, len(hits) + 1, dtype=np.float32)).astype(np.float32)
    recall = hits.astype(np.float32) / np.float32(positives)
    if version == "11point":
        return _eleven_points(precision, recall)
    if version == "MaxIntegral":
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        steps = [(recall[i + 1] - recall[i], precision[i]) for i in range(len(hits) - 2, -1, -1)]
        return float(_sum_steps(steps) + recall[0] * precision[0])
    return float(_sum_steps([(step, p) for step, p in zip(np.diff(recall, prepend=0), precision, strict=True)]))


def _eleven_points(precision: Array, recall: Array) -> float:
    largest = np.zeros(11, np.float32)
    for tenth in range(11):
        reached = recall.astype(np.float64) >= tenth / 10
        largest[tenth] = precision[reached].max(initial=0)
    total = np.float32(0)
    for value in largest[::-1]:
        total += value / np.float32(11)
    return float(total)


def _sum_steps(steps: Sequence[tuple[np.float32, np.float32]]) -> np.float32:
    total = np.float32(0)
    for step, precision in steps:
        if abs(step) > _SAME_RECALL:
            total += precision * abs(step)
    return total
