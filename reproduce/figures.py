"""The paper's figures, from our results and from the authors': side by side, and where the images are the same ones
theirs drawn faintly under ours."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter

from caffe_compat.atomic_file import atomic_path
from reproduce.comparisons import Difference, lines
from reproduce.network import DEPTHS
from reproduce.results import Result, comparable
from reproduce.splits import NATURAL_SPLIT, PAIR_SPLIT, RANDOM_SPLITS
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

#: how the halves of the natural/man-made split are labelled and drawn; to be told apart by the colour-blind, too
HALVES = (("A", "trained on A (natural)", "#009e73", "o"), ("B", "trained on B (man-made)", "#d55e00", "^"))
GRAY, NAVY = "#505050", "#1f3b8c"


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
#: the same results give the same file: ids in an SVG follow from this and what is drawn; its words stay words
SVG: dict[Any, Any] = {"svg.hashsalt": "caffe_compat", "svg.fonttype": "none"}
#: how the authors' curves lie under ours
FAINT: dict[str, Any] = {"lw": 5, "alpha": 0.25, "zorder": 0.5}
#: where the legend of a panel is that has no corner free
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}
#: the lines through means, of fine-tuned networks the second
JOINED, JOINED_TUNED = "-", "-."
#: a treatment's depths n, and its mean accuracy at each
Curve = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Drawn:
    """A figure on the disk."""

    svg: Path
    text: str  # its numbers in words, for who cannot see it


def draw_all(
    ours: Sequence[Result],
    paper: Sequence[Result],
    folder: Path,
    *,
    same_images: bool = False,
    cuts: Sequence[str] = (),
) -> dict[str, Drawn]:
    """Draw each figure that the results allow as SVG, PNG and PDF; {title: the figure}.

    ``same_images``: ours are of the authors' images, so that their accuracies are drawn under ours.  ``cuts``: the
    layers that cuts n = 1, 2, ... of our network lie behind, where they are not CaffeNet's.
    """
    makers = (
        ("fig2_points", "Accuracy of each network (Fig. 2, top)", fig2_points),
        ("fig2_lines", "Means and their interpretation (Fig. 2, bottom)", fig2_lines),
        ("fig3", "Natural and man-made, random features, and both against base (Fig. 3)", fig3),
        ("reduced", "Accuracy against images per class (supplement)", reduced),
    )
    figures = []
    for name, title, make in makers:
        figure = make(ours, paper, same_images)
        if figure is not None and cuts and make is not reduced:
            name_cuts(figure.axes[: len(figure.axes) // 2], cuts)  # the other half are the authors'
            figure.tight_layout()
        figures.append((name, title, figure))
    return save_all(figures, folder)


def save_all(figures: Iterable[tuple[str, str, Figure | None]], folder: Path) -> dict[str, Drawn]:
    """``save`` those that there are of (name, title, figure); {title: the figure, with its numbers in words}."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, title, figure in figures:
        if figure is not None:
            save(figure, folder / name)
            drawn[title] = Drawn(folder / f"{name}.svg", describe(figure))
    return drawn


def name_cuts(axes: Iterable[Axes], cuts: Sequence[str]) -> None:
    """Put the names of ``cuts`` beside their numbers n = 1, 2, ... on these axes."""
    for axis in axes if cuts else ():
        ticks = range(max(len(cuts), *(round(tick) for tick in axis.get_xticks())) + 1)
        label_ticks(axis, [f"{n} {cuts[n - 1]}" if 0 < n <= len(cuts) else str(n) for n in ticks])


def label_ticks(axis: Axes, names: Sequence[str]) -> None:
    """Names at x = 0, 1, ...; slanted, as they are long."""
    axis.set_xticks(range(len(names)))
    axis.xaxis.set_major_formatter(FixedFormatter(names))
    axis.tick_params(axis="x", labelrotation=60, labelsize=7)
    for label in axis.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    legend = axis.get_legend()
    if legend is not None and legend.get_bbox_to_anchor().y1 < axis.bbox.y0:  # below the axis: further down
        legend.set_bbox_to_anchor((0.5, -0.14 - 0.018 * max(map(len, names))), axis.transAxes)


def describe(figure: Figure) -> str:
    """What is drawn, in words and numbers: panel by panel each curve that has a name."""
    panels = []
    for axis in figure.axes:
        names = _tick_names(axis)
        curves = [text for line in axis.lines if (text := _numbers(line, names))]
        if curves:
            panels.append(f"{axis.get_title()}, {axis.get_ylabel()} by {axis.get_xlabel()}: {'; '.join(curves)}.")
    return " ".join(panels)


def _tick_names(axis: Axes) -> dict[int, str]:
    """{x: what stands there}, where names stand there."""
    formatter = axis.xaxis.get_major_formatter()
    return dict(enumerate(formatter.seq)) if isinstance(formatter, FixedFormatter) else {}


def _numbers(line: Line2D, names: Mapping[int, str]) -> str:
    """``base 0.625 at 0``; of several points at one place the least and the greatest."""
    places: dict[int, list[float]] = {}
    for x, y in np.asarray(line.get_xydata()):
        places.setdefault(round(x), []).append(y)
    if not places or str(line.get_label()).startswith("_"):
        return ""
    values = [f"{min(y):.3f}" if len(y) == 1 else f"{min(y):.3f} to {max(y):.3f}" for y in places.values()]
    return f"{line.get_label()} {', '.join(values)} at {', '.join(names.get(x, str(x)) for x in places)}"


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as SVG, PNG and PDF; the same drawing gives the same files."""
    # The date would make each drawing of the same results another file.
    dates: dict[str, Any] = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for suffix, metadata in dates.items():
        with atomic_path(stem.with_suffix(f".{suffix}")) as temporary, rc_context(SVG):
            figure.savefig(temporary, format=suffix, dpi=130, bbox_inches="tight", metadata=metadata)


def fig2_points(ours: Sequence[Result], paper: Sequence[Result], same_images: bool = False) -> Figure | None:
    """One marker per network at x = n; random halves where there are any, else natural/man-made ones."""
    return _beside(ours, paper, _points, same_images) if _on_halves(ours) else None


def fig2_lines(ours: Sequence[Result], paper: Sequence[Result], same_images: bool = False) -> Figure | None:
    """Lines through the means, bands for what lies between them, bars for intervals; halves as in ``fig2_points``."""
    return _beside(ours, paper, _lines, same_images) if _on_halves(ours) else None


def _on_halves(rows: Iterable[Result]) -> bool:
    return any(row.split for row in rows)


def fig3(ours: Sequence[Result], paper: Sequence[Result], same_images: bool = False) -> Figure | None:
    """Left: cross transfer of the natural/man-made split; middle: random features; right: minus base.

    Differences from base are laid over the authors' whatever the images are.
    """
    if not (RANDOM.of(ours) or any(r.split == NATURAL_SPLIT for r in ours)):
        return None
    figure = Figure(figsize=(13, 9))
    rows = figure.subplots(2, 3, squeeze=False)
    panels = (
        ("natural / man-made", _natural, same_images),
        ("random features", _random, same_images),
        ("minus base", _minus_base, True),
    )
    for axes, results, who in zip(rows, (ours, paper), ("this run", "paper"), strict=True):
        for axis, (title, draw, over) in zip(axes, panels, strict=True):
            draw(axis, results)
            if over and who == "this run":
                _under(axis, draw, paper)
            axis.set_title(f"{title} ({who})", fontsize=10)
            # Two sets of curves leave no corner free.
            _finish(axis, "difference from base" if draw is _minus_base else "top-1 accuracy", legend_below=True)
    figure.tight_layout()
    return figure


def reduced(ours: Sequence[Result], paper: Sequence[Result], same_images: bool = False) -> Figure | None:
    """Accuracy of the reduced-* networks against images per class, on linear and on logarithmic axes."""
    if not REDUCED.of(ours):
        return None

    figure = Figure(figsize=(13, 9.6))
    for row, scale in zip(figure.subplots(2, 2, squeeze=False), ("linear", "log"), strict=True):
        for axis, results, who in zip(row, (ours, paper), ("this run", "paper"), strict=True):
            _reduced(axis, results)
            if same_images and who == "this run":
                _under(axis, _reduced, paper)
            axis.set_xscale(scale)
            axis.set_yscale(scale)
            axis.set_xlabel("images per class")
            axis.set_ylabel("top-1 accuracy")
            axis.set_title(f"{who}, {'linear' if scale == 'linear' else 'log-log'}", fontsize=10)
            axis.grid(alpha=0.2)
            axis.legend(fontsize=7)
    figure.tight_layout()
    return figure


# -- parts of figures -------------------------------------------------------------------


def _beside(
    ours: Sequence[Result],
    paper: Sequence[Result],
    draw: Callable[[Axes, Sequence[Result]], None],
    same_images: bool,
) -> Figure:
    """The same drawing of our results and the authors'."""
    figure = Figure(figsize=(13, 4.8))
    axes = figure.subplots(1, 2)
    for axis, results, who in zip(axes, (ours, paper), ("this run", "paper"), strict=True):
        draw(axis, comparable(results, ours))
        if same_images and who == "this run":
            _under(axis, _lines, comparable(paper, ours))
        axis.set_title(who, fontsize=10)
        _as_in_the_paper(axis)
        _finish(axis)
    figure.tight_layout()
    return figure


def _under(axis: Axes, draw: Callable[[Axes, Sequence[Result]], None], paper: Sequence[Result]) -> None:
    """The authors' curves, as ``draw`` makes them, broad and faint under what is drawn already."""
    theirs = Figure().subplots()
    draw(theirs, paper)
    joined = [line for line in theirs.lines if line.get_linestyle() in (JOINED, JOINED_TUNED)]
    for line in joined:
        look = {"color": line.get_color(), "ls": line.get_linestyle(), "label": "_", **FAINT}
        axis.plot(*np.asarray(line.get_data()), **look)
    if joined:
        axis.plot([], [], color=GRAY, label="the authors', underneath", **FAINT)


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
        style = JOINED_TUNED if mark.plus else JOINED
        axis.plot(start[0] + depths, start[1] + values, style, color=mark.edge, lw=1.2)
        axis.plot(depths, values, mark.marker, mfc=mark.fill, mec=mark.edge, label=treatment.label)
        for n, value in zip(depths, values, strict=True):
            _error_bar(axis, n + mark.shift / 2, value, intervals.get((treatment.name, n)), mark.edge)
    if level is not None:
        for gap in GAPS:
            _shade(axis, gap, curves, level)


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
    for target, label, colour, marker in HALVES:
        points = _curve([r for r in (*BASE.of(rows), *CROSS.of(rows)) if r.target == target])
        if points[0]:
            axis.plot(*points, f"{marker}-", color=colour, label=label)
    if not rows:
        axis.text(3.5, 0.5, "run --split natman into the same --out\nfor this panel", ha="center", va="center")


def _random(axis: Axes, results: Sequence[Result]) -> None:
    depths, values = _curve(RANDOM.of(results))
    whole = NETBASE.of(results)
    if whole:
        depths, values = [0, *depths], [_mean(whole), *values]
    if depths:
        axis.plot(depths, values, "s-", color=GRAY, label=RANDOM.label)


def _minus_base(axis: Axes, results: Sequence[Result]) -> None:
    """Cross transfer of random and natural halves, and random features, each minus its own base's mean."""
    halves = [r for r in results if r.split in (*RANDOM_SPLITS, PAIR_SPLIT)]
    kind = "two data sets" if any(r.split == PAIR_SPLIT for r in halves) else "random halves"
    natural = [r for r in results if r.split == NATURAL_SPLIT]
    # Random features are trained on all classes; where no network of all classes is at hand, the halves' stand in.
    stand_in = BASE.of(halves) or BASE.of(natural)
    whole, label = (NETBASE.of(results), "") if NETBASE.of(results) else (stand_in, " (minus the halves' base)")
    groups = (
        (kind, CROSS.of(halves), BASE.of(halves), "#8c1f1f", "D"),
        ("natural / man-made", CROSS.of(natural), BASE.of(natural), "#0072b2", "o"),
        (f"{RANDOM.label}{label}", RANDOM.of(results), whole, GRAY, "s"),
    )
    for label, rows, base, colour, marker in groups:
        depths, values = _curve(rows)
        if base and depths:
            level = _mean(base)
            x, y = [0, *depths], [0, *(v - level for v in values)]
            axis.plot(x, y, f"{marker}-", color=colour, ms=4, label=label)


def _reduced(axis: Axes, results: Sequence[Result]) -> None:
    sizes, values = _curve(REDUCED.of(results))
    axis.plot(sizes, values, "o-", color=NAVY, label=REDUCED.label)


def _finish(axis: Axes, label: str = "top-1 accuracy", *, legend_below: bool = False) -> None:
    """Names, ticks and the legend, when all is drawn."""
    axis.set_xlabel("layer n at which the network is cut and retrained")
    axis.set_ylabel(label)
    deepest = max([DEPTHS[-1], *(round(x) for x in axis.dataLim.intervalx if math.isfinite(x))])
    axis.set_xticks(range(deepest + 1))
    axis.grid(alpha=0.2)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, **(BELOW if legend_below else {}))
