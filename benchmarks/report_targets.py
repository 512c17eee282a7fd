"""The project's targets, each as a ratio inside one run, and what the numbers say of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """``measure`` gives the number of one run, or None where the run does not have it."""

    words: str
    device: str
    kind: str  # the benchmark that measures it
    goal: float
    at_most: bool
    measure: Callable[[Results], float | None]


def _worst(values: Iterable[float], at_most: bool) -> float | None:
    values = list(values)
    return (max(values) if at_most else min(values)) if values else None


def _rows(part: str, other: str, at_most: bool) -> Callable[[Results], float | None]:
    """The worst ratio over the layers: ours / other, or other / ours for the best of several others."""

    def measure(results: Results) -> float | None:
        rows = [row for label, row in results["ms"].items() if label.endswith(f") {part}") and other in row]
        return _worst((row["ours"] / row[other] if at_most else row[other] / row["ours"] for row in rows), at_most)

    return measure


def _fused(results: Results) -> float | None:
    """Our fused chain over the best of those that run its layers one by one, forward, the worst chain with LRN."""
    rows = [row for label, row in results["ms"].items() if label.endswith(") forward") and "norm" in label]
    return _worst((row["ours"] / min(row[n] for n in ("one by one", "torch") if n in row) for row in rows), True)


def _conv(precision: str) -> Callable[[Results], float | None]:
    """PyTorch's time over ours, all layers and the three products together; the better of PyTorch's layouts."""

    def measure(results: Results) -> float | None:
        rows = results["ms"].get(precision, {}).values()
        ours = sum(row["ours"] for row in rows)
        return sum(min(v for n, v in row.items() if n.startswith("torch")) for row in rows) / ours if ours else None

    return measure


def _train_ratio(results: Results) -> float | None:
    row = results["precisions"].get("fp32", {}).get("ms", {}).get("forward + backward", {})
    eager = [ms for name, ms in row.items() if name in ("torch", "torch channels_last")]
    return min(eager) / row["ours fast"] if eager and "ours fast" in row else None


def _train_speed(precision: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        row = results["precisions"].get(precision, {}).get("ms", {}).get("with update", {})
        return 1e3 * results["batch"] / row["ours fast"] if "ours fast" in row else None

    return measure


TARGETS = (
    Target("LRN forward, times faster than torch", "cpu", "lrn", 10, False, _rows("forward", "torch", False)),
    Target(
        "LRN forward + backward, times faster than torch",
        "cpu",
        "lrn",
        10,
        False,
        _rows("forward + backward", "torch", False),
    ),
    Target(
        "CaffeNet forward + backward, times faster than the better torch layout",
        "cpu",
        "train",
        1.45,
        False,
        _train_ratio,
    ),
    Target("LRN forward, times a copy", "cuda", "lrn", 1.15, True, _rows("forward", "copy", True)),
    Target("LRN backward, times its three-tensor floor", "cuda", "lrn", 1.25, True,
           _rows("backward", "3-tensor floor", True)),
    Target("ReLU, pooling and LRN in one, times the best one by one", "cuda", "pool", 0.5, True, _fused),
    *(
        Target(f"grouped convolution {p}, times faster than PyTorch's", "cuda", "conv", goal, False, _conv(p))
        for p, goal in (("fp32", 3), ("tf32", 2), ("bf16", 2))
    ),
    *(
        Target(f"CaffeNet training {p}, images/s", "cuda", "train", goal, False, _train_speed(p))
        for p, goal in (("fp32", 16000), ("tf32", 30000), ("bf16", 40000))
    ),
)  # fmt: skip


def target_rows(runs: Iterable[tuple[str, str, Results]]) -> list[tuple[str, str, str, str, str]]:
    """(target, device, goal, measured, verdict) for all targets; ``runs``: (kind, device, results)."""
    runs = list(runs)
    rows = []
    for target in TARGETS:
        found = [
            value
            for kind, device, results in runs
            if (kind, device) == (target.kind, target.device) and (value := target.measure(results)) is not None
        ]
        goal = f"{'at most' if target.at_most else 'at least'} {target.goal:,}"
        if not found:
            rows.append((target.words, target.device, goal, "not measured", "-"))
            continue
        value = found[-1]
        met = value <= target.goal if target.at_most else value >= target.goal
        share = value / target.goal
        number = f"{value:,.0f}" if value > 1000 else f"{value:.2f}"
        rows.append((target.words, target.device, goal, number, "met" if met else f"missed: {share:.2f} of the goal"))
    return rows
