"""The paper's figures, from our results or from the authors'."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caffe_compat.atomic_file import atomic_path
from reproduce.comparisons import Difference, lines
from reproduce.network import DEPTHS
from reproduce.results import Result, comparable
from reproduce.splits import NATURAL_SPLIT, RANDOM_SPLITS
from reproduce.treatments import (
    BASE,
    CROSS,
    CROSS_TUNED,
    NETBASE,
    RANDOM,
    REDUCED,
    SELFFER,
    TREATMENTS,
    Mark,
    Treatment,
)

#: how the halves of the natural/man-made split are labelled and drawn
HALVES = (("A", "trained on A (natural)", "#2e7d32"), ("B", "trained on B (man-made)", "#6d4c41"))


class Gap(NamedTuple):
    """What it means that one curve of Fig. 2 lies above another."""

    lower: Treatment
    upper: Treatment
    colour: str
    meaning: str


GAPS = (
    Gap(BASE, CROSS_TUNED, "#f0a8a0", "fine-tuning improves generalisation"),
    Gap(SELFFER, BASE, "#9cc3ee", "fragile co-adaptation"),
    Gap(CROSS, SELFFER, "#d8a0d0", "features specific to their task"),
)
#: the accuracies that the paper's Fig. 2 shows; taken wherever all points lie between them
PAPER_RANGE = (0.52, 0.66)
#: the same results give the same file: ids in an SVG follow from this and what is drawn
SVG_SALT = "caffe_compat"
#: a treatment's depths n, and its mean accuracy at each
Curve = tuple[list[int], list[float]]


def draw_all(ours: Sequence[Result], paper: Sequence[Result], folder: Path) -> dict[str, Path]:
    """Draw each figure that the results allow as SVG, PNG and PDF; {title: SVG file}."""
    makers = (
        ("fig2_points", "Accuracy of each network (Fig. 2, top)", fig2_points),
        ("fig2_lines", "Means and their interpretation (Fig. 2, bottom)", fig2_lines),
        ("fig3", "Natural and man-made, random features, and both against base (Fig. 3)", fig3),
        ("reduced", "Accuracy against images per class (supplement)", reduced),
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, title, make in makers:
        figure = make(ours, paper)
        if figure is not None:
            save(figure, folder / name)
            files[title] = folder / f"{name}.svg"
    return files


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as SVG, PNG and PDF; the same drawing gives the same files."""
    # The date would make each drawing of the same results another file.
    dates: dict[str, Any] = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for suffix, metadata in dates.items():
        with atomic_path(stem.with_suffix(f".{suffix}")) as temporary, rc_context({"svg.hashsalt": SVG_SALT}):
            figure.savefig(temporary, format=suffix, dpi=130, bbox_inches="tight", metadata=metadata)


def fig2_points(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """One marker per network at x = n; random halves where there are any, else natural/man-made ones."""
    return _beside(ours, paper, _points) if _on_halves(ours) else None


def fig2_lines(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """Lines through the means, bands for what lies between them, bars for intervals; halves as in ``fig2_points``."""
    return _beside(ours, paper, _lines) if _on_halves(ours) else None


def _on_halves(rows: Iterable[Result]) -> bool:
    return any(row.split for row in rows)


def fig3(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """Left: cross transfer of the natural/man-made split; middle: random features; right: minus base."""
    if not (RANDOM.of(ours) or any(r.split == NATURAL_SPLIT for r in ours)):
        return None
    figure = Figure(figsize=(13, 7.5))
    rows = figure.subplots(2, 3, squeeze=False)
    for axes, results, who in zip(rows, (ours, paper), ("this run", "paper"), strict=True):
        _natural(axes[0], results)
        _random(axes[1], results)
        _minus_base(axes[2], results)
        for axis in axes:
            axis.set_title(f"{axis.get_title()} ({who})", fontsize=10)
    figure.tight_layout()
    return figure


def reduced(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """Accuracy of the reduced-* networks against images per class."""
    if not REDUCED.of(ours):
        return None

    figure = Figure(figsize=(13, 9.6))
    for row, scale in zip(figure.subplots(2, 2, squeeze=False), ("linear", "log"), strict=True):
        for axis, results, who in zip(row, (ours, paper), ("this run", "paper"), strict=True):
            points = sorted((r.n, r.accuracy) for r in REDUCED.of(results))
            axis.plot([n for n, _ in points], [a for _, a in points], "o-", color="#1f3b8c")
            axis.set_xscale(scale)
            axis.set_yscale(scale)
            axis.set_xlabel("images per class")
            axis.set_ylabel("top-1 accuracy")
            axis.set_title(who, fontsize=10)
            axis.grid(alpha=0.2)
    figure.tight_layout()
    return figure


# -- parts of figures -------------------------------------------------------------------


def _beside(ours: Sequence[Result], paper: Sequence[Result], draw: Callable[[Axes, Sequence[Result]], None]) -> Figure:
    """The same drawing of our results and the authors'."""
    figure = Figure(figsize=(13, 4.8))
    axes = figure.subplots(1, 2)
    for axis, results, who in zip(axes, (ours, paper), ("this run", "paper"), strict=True):
        draw(axis, comparable(results, ours))
        axis.set_title(who, fontsize=10)
    figure.tight_layout()
    return figure


def _drawn() -> list[tuple[Treatment, Mark]]:
    """The treatments that have a mark; those of one colour side by side, for the legend."""
    marked = [(treatment, treatment.mark) for treatment in TREATMENTS.values() if treatment.mark]
    colours = [mark.edge for _, mark in marked]
    return sorted(marked, key=lambda pair: colours.index(pair[1].edge))


def _mean(results: Iterable[Result]) -> float:
    return mean(r.accuracy for r in results)


def _curve(rows: Sequence[Result]) -> Curve:
    """Mean accuracy of the results of one treatment at each n."""
    depths = sorted({r.n for r in rows})
    return depths, [_mean(r for r in rows if r.n == n) for n in depths]


def _points(axis: Axes, results: Sequence[Result]) -> None:
    for treatment, mark in _drawn():
        rows = [row for row in treatment.of(results) if row.split]  # random features have Fig. 3
        if not rows:
            continue
        x, y = [r.n + mark.shift for r in rows], [r.accuracy for r in rows]
        axis.plot(x, y, mark.marker, mfc=mark.fill, mec=mark.edge, ms=6, label=treatment.label)
        if mark.plus:
            axis.plot(x, y, "+", color=mark.edge, ms=5)
    _as_in_the_paper(axis)
    _finish(axis)


def _lines(axis: Axes, results: Sequence[Result]) -> None:
    base = BASE.of(results)
    level = _mean(base) if base else None
    if level is not None:
        axis.axhline(level, color="black", ls="--", lw=1)
        axis.plot([0], [level], "o", mfc="white", mec="black", label=BASE.label)
    curves: dict[str, Curve] = {}
    intervals = {(line.treatment, line.n): line.difference for line in lines(results)}
    for treatment, mark in _drawn():
        rows = treatment.of(results)
        if not rows or not mark.line:
            continue
        depths, values = curves[treatment.name] = _curve(rows)
        start = ([0], [level]) if level is not None else ([], [])
        axis.plot(start[0] + depths, start[1] + values, color=mark.edge, lw=1.2, alpha=0.6 if mark.plus else 1)
        axis.plot(depths, values, mark.marker, mfc=mark.fill, mec=mark.edge, label=treatment.label)
        for n, value in zip(depths, values, strict=True):
            _error_bar(axis, n + mark.shift / 2, value, intervals.get((treatment.name, n)), mark.edge)
    if level is not None:
        for gap in GAPS:
            _shade(axis, gap, curves, level)
    _as_in_the_paper(axis)
    _finish(axis)


def _error_bar(axis: Axes, x: float, value: float, difference: Difference | None, colour: str) -> None:
    """The interval of the mean difference from base, around the mean."""
    if difference and difference.low is not None and difference.high is not None:
        low, high = value + difference.low - difference.mean, value + difference.high - difference.mean
        axis.vlines(x, low, high, color=colour, lw=1)


def _shade(axis: Axes, gap: Gap, curves: Mapping[str, Curve], level: float) -> None:
    """Colour a gap, from n = 0 on, where the upper curve is above; the base is a line at ``level``."""
    at = {name: dict(zip(*curve, strict=True)) for name, curve in curves.items()}
    every = {n: level for curve in at.values() for n in curve}
    lower, upper = (every if t is BASE else at.get(t.name, {}) for t in (gap.lower, gap.upper))
    depths = sorted(lower.keys() & upper.keys())
    if not any(upper[n] > lower[n] for n in depths):
        return
    low, high = np.array([level, *(lower[n] for n in depths)]), np.array([level, *(upper[n] for n in depths)])
    look: dict[str, Any] = {"color": gap.colour, "alpha": 0.3, "lw": 0, "label": gap.meaning}
    axis.fill_between([0, *depths], low, high, where=high >= low, interpolate=True, **look)


def _as_in_the_paper(axis: Axes) -> None:
    """The paper's own range, where all that is drawn lies in it."""
    low, high = axis.dataLim.intervaly
    if PAPER_RANGE[0] <= low and high <= PAPER_RANGE[1]:
        axis.set_ylim(*PAPER_RANGE)


def _natural(axis: Axes, results: Sequence[Result]) -> None:
    rows = [r for r in results if r.split == NATURAL_SPLIT]
    for target, label, colour in HALVES:
        mine = [r for r in (*BASE.of(rows), *CROSS.of(rows)) if r.target == target]
        points = sorted((r.n, r.accuracy) for r in mine)
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
    if not rows:
        axis.text(3.5, 0.5, "run --split natman into the same --out\nfor this panel", ha="center", va="center")
    axis.set_title("natural / man-made")
    _finish(axis)


def _random(axis: Axes, results: Sequence[Result]) -> None:
    depths, values = _curve(RANDOM.of(results))
    whole = NETBASE.of(results)
    if whole:
        depths, values = [0, *depths], [_mean(whole), *values]
    axis.plot(depths, values, "s-", color="#505050")
    axis.set_title("random features")
    _finish(axis)


def _minus_base(axis: Axes, results: Sequence[Result]) -> None:
    """Cross transfer of random and natural halves, and random features, each minus its own base's mean."""
    halves = [r for r in results if r.split in RANDOM_SPLITS]
    natural = [r for r in results if r.split == NATURAL_SPLIT]
    # Random features are trained on all classes; where no network of all classes is at hand, the halves' stand in.
    stand_in = BASE.of(halves) or BASE.of(natural)
    whole, label = (NETBASE.of(results), "") if NETBASE.of(results) else (stand_in, " (minus the halves' base)")
    groups = (
        ("random halves", CROSS.of(halves), BASE.of(halves), "#8c1f1f"),
        ("natural / man-made", CROSS.of(natural), BASE.of(natural), "#2e7d32"),
        (f"random features{label}", RANDOM.of(results), whole, "#505050"),
    )
    for label, rows, base, colour in groups:
        depths, values = _curve(rows)
        if base and depths:
            level = _mean(base)
            axis.plot([0, *depths], [0, *(v - level for v in values)], "o-", color=colour, ms=4, label=label)
    axis.set_title("minus base")
    _finish(axis, "difference from base")


def _finish(axis: Axes, label: str = "top-1 accuracy") -> None:
    axis.set_xlabel("layer n at which the network is cut and retrained")
    axis.set_ylabel(label)
    deepest = max([DEPTHS[-1], *(round(x) for x in axis.dataLim.intervalx if math.isfinite(x))])
    axis.set_xticks(range(deepest + 1))
    axis.grid(alpha=0.2)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)
