"""The paper's figures, from our results or from the authors'."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caffe_compat.atomic_file import atomic_path
from reproduce.results import Result

#: treatment -> (marker, fill, edge, shift in n so that markers do not cover each other, plus sign on it)
MARKS = {
    "BnB": ("o", "#1f3b8c", "#1f3b8c", -0.15, False),
    "BnB+": ("o", "#9cc3ee", "#1f3b8c", -0.05, True),
    "AnB": ("D", "#8c1f1f", "#8c1f1f", 0.05, False),
    "AnB+": ("D", "#f0a8a0", "#8c1f1f", 0.15, True),
    "random": ("s", "#b0b0b0", "#505050", 0.0, False),
}
NAMES = {"BnB": "selffer BnB", "BnB+": "selffer BnB+", "AnB": "transfer AnB", "AnB+": "transfer AnB+"}
NAMES["random"] = "random features"
SUBTITLES = {"A": "trained on A (natural)", "B": "trained on B (man-made)"}
RANDOM_SPLITS = ("0", "1", "2", "3")


def draw_all(ours: Sequence[Result], paper: Sequence[Result], folder: Path) -> dict[str, Path]:
    """Draw each figure that the results allow as SVG and PNG; {title: SVG file}."""
    makers = (
        ("fig2_points", "Accuracy of each network (Fig. 2, top)", fig2_points),
        ("fig2_lines", "Means and their interpretation (Fig. 2, bottom)", fig2_lines),
        ("fig3", "Natural and man-made, random features, and both against base (Fig. 3)", fig3),
        ("reduced", "Accuracy against images per class (supplement)", reduced),
    )
    matplotlib.rcParams["svg.hashsalt"] = "caffe_compat"  # the same results give the same file
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, title, make in makers:
        figure = make(ours, paper)
        if figure is None:
            continue
        for suffix in ("png", "svg"):
            with atomic_path(folder / f"{name}.{suffix}") as temporary:
                # The date would make each drawing of the same results another file.
                metadata = {"Date": None} if suffix == "svg" else None
                figure.savefig(temporary, format=suffix, dpi=130, bbox_inches="tight", metadata=metadata)
        plt.close(figure)
        files[title] = folder / f"{name}.svg"
    return files


def fig2_points(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """One marker per network at x = n."""
    return _beside(ours, paper, _points) if _of(ours, "base") else None


def fig2_lines(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """Lines through the means, bands for what lies between them."""
    return _beside(ours, paper, _lines) if _of(ours, "base") else None


def fig3(ours: Sequence[Result], paper: Sequence[Result]) -> Figure | None:
    """Left: cross transfer of the natural/man-made split; middle: random features; right: minus base."""
    if not (_of(ours, "random") or any(r.split == "natman" for r in ours)):
        return None
    figure, rows = plt.subplots(2, 3, figsize=(13, 7.5), squeeze=False)
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
    if not any(result.family == "reduced" for result in ours):
        return None

    def draw(axis: Axes, results: Sequence[Result]) -> None:
        rows = sorted((r.n, r.accuracy) for r in results if r.family == "reduced")
        axis.plot([n for n, _ in rows], [a for _, a in rows], "o-", color="#1f3b8c")
        axis.set_xscale("log")
        axis.set_xlabel("images per class")
        axis.set_ylabel("top-1 accuracy")

    return _beside(ours, paper, draw)


# -- parts of figures -------------------------------------------------------------------


def _beside(ours: Sequence[Result], paper: Sequence[Result], draw: Callable[[Axes, Sequence[Result]], None]) -> Figure:
    """The same drawing of our results and the authors'."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.8))
    splits = {r.split for r in ours if r.split} or set(RANDOM_SPLITS)
    natman = splits == {"natman"}
    same = [r for r in paper if not r.split or (r.split == "natman") == natman]
    for axis, results, who in zip(axes, (ours, same), ("this run", "paper"), strict=True):
        draw(axis, results)
        axis.set_title(who, fontsize=10)
    figure.tight_layout()
    return figure


def _of(results: Iterable[Result], treatment: str) -> list[Result]:
    return [r for r in results if r.treatment == treatment and r.family not in ("netbase", "reduced")]


def _mean(results: Iterable[Result]) -> float:
    return mean(r.accuracy for r in results)


def _curve(results: Iterable[Result], treatment: str) -> tuple[list[int], list[float]]:
    """Mean accuracy of a treatment at each n."""
    rows = _of(results, treatment)
    depths = sorted({r.n for r in rows})
    return depths, [_mean(r for r in rows if r.n == n) for n in depths]


def _points(axis: Axes, results: Sequence[Result]) -> None:
    base = _of(results, "base")
    axis.plot([0] * len(base), [r.accuracy for r in base], "o", mfc="white", mec="black", label="base")
    for treatment, (marker, fill, edge, shift, plus) in MARKS.items():
        rows = _of(results, treatment)
        if not rows:
            continue
        x, y = [r.n + shift for r in rows], [r.accuracy for r in rows]
        axis.plot(x, y, marker, mfc=fill, mec=edge, ms=6, label=NAMES[treatment])
        if plus:
            axis.plot(x, y, "+", color=edge, ms=5)
    _finish(axis)


def _lines(axis: Axes, results: Sequence[Result]) -> None:
    base = _of(results, "base")
    level = _mean(base) if base else None
    curves = {t: _curve(results, t) for t in ("BnB", "BnB+", "AnB", "AnB+") if _of(results, t)}
    if level is not None:
        axis.axhline(level, color="black", ls="--", lw=1)
        axis.plot([0], [level], "o", mfc="white", mec="black", label="base")
    for treatment, (depths, values) in curves.items():
        marker, fill, edge, _, plus = MARKS[treatment]
        start = ([0], [level]) if level is not None else ([], [])
        axis.plot(start[0] + depths, start[1] + values, color=edge, lw=1.2, alpha=0.6 if plus else 1)
        axis.plot(depths, values, marker, mfc=fill, mec=edge, label=NAMES[treatment])
    for upper, lower, colour, label in (
        ("base", "AnB+", "#f0a8a0", "fine-tuning improves generalisation"),
        ("base", "BnB", "#9cc3ee", "fragile co-adaptation"),
        ("BnB", "AnB", "#d8a0d0", "features specific to their task"),
    ):
        _band(axis, curves, level, upper, lower, colour, label)
    _finish(axis)


def _band(axis: Axes, curves: dict, level: float | None, first: str, second: str, colour: str, label: str) -> None:
    """Shade between two curves; ``base`` is the level line."""
    if second not in curves or (first == "base" and level is None) or (first != "base" and first not in curves):
        return
    depths, values = curves[second]
    others = curves[first][1] if first != "base" else [level or 0.0] * len(depths)
    if len(others) == len(values):
        axis.fill_between(depths, others, values, color=colour, alpha=0.3, lw=0, label=label)


def _natural(axis: Axes, results: Sequence[Result]) -> None:
    rows = [r for r in results if r.split == "natman"]
    for target, colour in (("A", "#2e7d32"), ("B", "#6d4c41")):
        mine = [r for r in rows if r.target == target and r.treatment in ("base", "AnB")]
        points = sorted((r.n, r.accuracy) for r in mine)
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color=colour, label=SUBTITLES[target])
    if not rows:
        axis.text(3.5, 0.5, "run --split natman into the same --out\nfor this panel", ha="center", va="center")
    axis.set_title("natural / man-made")
    _finish(axis)


def _random(axis: Axes, results: Sequence[Result]) -> None:
    depths, values = _curve(results, "random")
    whole = [r for r in results if r.family == "netbase"]
    if whole:
        depths, values = [0, *depths], [_mean(whole), *values]
    axis.plot(depths, values, "s-", color="#505050")
    axis.set_title("random features")
    _finish(axis)


def _minus_base(axis: Axes, results: Sequence[Result]) -> None:
    """Cross transfer of random and natural halves, and random features, each minus its own base's mean."""
    groups = (
        ("random halves", [r for r in results if r.split in RANDOM_SPLITS], "AnB", "#8c1f1f"),
        ("natural / man-made", [r for r in results if r.split == "natman"], "AnB", "#2e7d32"),
        ("random features", [r for r in results if r.treatment == "random"], "random", "#505050"),
    )
    for label, rows, treatment, colour in groups:
        base = _of(rows, "base")
        if treatment == "random":
            # The control's own base is the network on all classes; a run of one split has none.
            base = [r for r in results if r.family == "netbase"] or _of(results, "base")
        depths, values = _curve(rows, treatment)
        if base and depths:
            level = _mean(base)
            axis.plot([0, *depths], [0, *(v - level for v in values)], "o-", color=colour, ms=4, label=label)
    axis.set_title("minus base")
    _finish(axis, "difference from base")


def _finish(axis: Axes, label: str = "top-1 accuracy") -> None:
    axis.set_xlabel("layer n at which the network is cut and retrained")
    axis.set_ylabel(label)
    axis.set_xticks(range(8))
    axis.grid(alpha=0.2)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)
