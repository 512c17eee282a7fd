"""Figures of ``diagnostics.csv`` for the report: how well upper layers could be trained again, and which layers matter.

Means over halves, splits and seeds.  A bar is the 95 % interval of the mean where there are six values or more, else it
reaches from the least to the greatest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reproduce.comparisons import bootstrap
from reproduce.diagnostics.measurements import Measurement
from reproduce.figures import BELOW, Drawn, label_ticks, name_cuts, save_all
from reproduce.splits import NATURAL_SPLIT
from reproduce.treatments import BASE, TREATMENTS, Treatment

BLUE, ORANGE = "#1f3b8c", "#d55e00"
#: of the curves of one panel, one for each depth n: by sign, and from dark to light as far as it is seen on white
MARKERS = "osD^vPX*<>"
DEPTH_COLOURS, LIGHTEST = "viridis", 0.65
#: of panels that are drawn side by side
COLUMNS = 3
LAYER = "layer"
#: of a legend's line below a panel, a sign with what is around it five
LEGEND_CHARACTERS = 50


def draw_diagnostics(rows: Sequence[Measurement], folder: Path, *, cuts: Sequence[str] = ()) -> dict[str, Drawn]:
    """Draw each figure that the measurements allow as SVG, PNG and PDF; {title: the figure}.

    ``cuts``: as in ``figures.draw_all``.  Measurements on natural/man-made halves are drawn where there are no others.
    """
    others = any(row.split not in ("", NATURAL_SPLIT) for row in rows)
    shown = [row for row in rows if not others or row.split != NATURAL_SPLIT]
    figures = (
        ("diagnostics_loss", "Training loss at the end, above base", training_loss(shown, cuts)),
        ("diagnostics_cka", "How alike layers of two networks are: linear CKA", alignments(shown, cuts)),
        ("diagnostics_layers", "One layer as it was drawn, and two networks stitched together", single_layers(shown)),
    )
    return save_all(figures, folder)


def training_loss(rows: Sequence[Measurement], cuts: Sequence[str] = ()) -> Figure | None:
    """A curve for each treatment: its training loss minus that of the base on the same images, by n."""
    rows = [row for row in rows if row.measure == "training_loss_gap" and row.n]
    if not rows:
        return None
    figure = Figure(figsize=(7.5, 4.8))
    axis = figure.subplots()
    axis.axhline(0, color="black", ls="--", lw=1)
    axis.plot([0], [0], "o", mfc="white", mec="black", label=BASE.label)
    for treatment in _marked(rows):
        mark = treatment.mark
        assert mark is not None
        values = _by(rows_of(rows, treatment), lambda row: row.n)
        look = {"marker": mark.marker, "mfc": mark.fill, "mec": mark.edge, "color": mark.edge}
        _curve(axis, values, treatment.label, {**look, "ls": "-." if mark.plus else "-"}, mark.shift / 2)
    axis.set_xticks(range(max(row.n for row in rows) + 1))
    axis.set_title("this run", fontsize=10)
    _finish(axis, "layer n at which the network is cut and retrained", "training loss minus base")
    name_cuts([axis], cuts)
    figure.tight_layout()
    return figure


def alignments(rows: Sequence[Measurement], cuts: Sequence[str] = ()) -> Figure | None:
    """A panel for each treatment and network of reference: CKA by layer, a curve for each n."""
    rows = [row for row in rows if row.measure == "cka"]
    panels = [
        (f"{treatment.label}, {reference}", found)
        for reference, start in (("with base on the same images", False), ("with the network it starts from", True))
        for treatment in _marked(rows)
        if (found := [row for row in rows_of(rows, treatment) if is_start(row) == start])
    ]
    if not panels:
        return None
    depths = sorted({row.n for row in rows})
    names = _names(rows)
    figure, axes = _grid(len(panels))
    for axis, (title, found) in zip(axes, panels, strict=True):
        for place, n in enumerate(depths):
            values = _by([row for row in found if row.n == n], lambda row: names.index(row.layer))
            colour = to_hex(colormaps[DEPTH_COLOURS](LIGHTEST * place / max(1, len(depths) - 1)))
            label = f"n = {n}" + (f" ({cuts[n - 1]})" if 0 < n <= len(cuts) else "")
            look = {"marker": MARKERS[place % len(MARKERS)], "color": colour, "ms": 5, "ls": "-"}
            _curve(axis, values, label, look, 0.0)
        axis.set_title(title, fontsize=10)
        _finish(axis, LAYER, "linear CKA")
        label_ticks(axis, names)
    figure.tight_layout()
    return figure


def is_start(row: Measurement) -> bool:
    """Whether the reference of an alignment is another network than the base on the same images."""
    return bool(row.split) and row.reference.partition("-seed")[0] != BASE.network(row.split, row.target).name


def single_layers(rows: Sequence[Measurement]) -> Figure | None:
    """Left: bases with one layer put back to its initial values; right: two bases joined at a layer."""
    panels = (
        ("one layer put back to its initial values", (("reinitialised_accuracy", "that layer as drawn", BLUE, "o"),)),
        (
            "one base above the layer, the other half's up to it",
            (
                ("stitched_accuracy", "joined by a map that is trained", BLUE, "o"),
                ("stitched_accuracy_start", "joined by least squares", ORANGE, "^"),
            ),
        ),
    )
    there = [(title, curves) for title, curves in panels if any(row.measure == curves[0][0] for row in rows)]
    if not there:
        return None
    whole = [row.value for row in rows if row.measure == "accuracy"]
    figure, axes = _grid(len(there))
    for axis, (title, curves) in zip(axes, there, strict=True):
        names = _names([row for row in rows if row.measure == curves[0][0]])
        if whole:
            axis.plot(range(len(names)), [mean(whole)] * len(names), "--", color="black", lw=1, label="base as it is")
        for measure, label, colour, marker in curves:
            values = _by([row for row in rows if row.measure == measure], lambda row: names.index(row.layer))  # noqa: B023
            _curve(axis, values, label, {"marker": marker, "color": colour, "ls": "-"}, 0.0)
        axis.set_title(title, fontsize=10)
        _finish(axis, LAYER, "top-1 accuracy")
        label_ticks(axis, names)
    figure.tight_layout()
    return figure


# -- parts of figures -------------------------------------------------------------------


def rows_of(rows: Iterable[Measurement], treatment: Treatment) -> list[Measurement]:
    """Those of a treatment other than base."""
    return [row for row in rows if row.treatment == treatment.in_table]


def _marked(rows: Sequence[Measurement]) -> list[Treatment]:
    """The treatments that have a mark and a measurement, base left out."""
    return [t for t in TREATMENTS.values() if t.mark and t is not BASE and rows_of(rows, t)]


def _names(rows: Iterable[Measurement]) -> list[str]:
    """Their layers, in the order in which they come: from the input on."""
    return list(dict.fromkeys(row.layer for row in rows))


def _by(rows: Iterable[Measurement], place: Callable[[Measurement], int]) -> dict[int, list[float]]:
    """{x: the values there}, x ascending."""
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=place):
        found.setdefault(place(row), []).append(row.value)
    return found


def _curve(
    axis: Axes, values: Mapping[int, Sequence[float]], label: str, look: Mapping[str, Any], shift: float
) -> None:
    """A line through the means, with bars."""
    if not values:
        return
    axis.plot(list(values), [mean(some) for some in values.values()], label=label, lw=1.2, **look)
    for x, some in values.items():
        found = bootstrap(some)
        low, high = min(some), max(some)
        if found.low is not None and found.high is not None:
            low, high = found.low, found.high
        if len(some) > 1:
            axis.vlines(x + shift, low, high, color=look["color"], lw=1)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """So many panels."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.4 * columns, 4.4 * rows))
    return figure, [figure.add_subplot(rows, columns, number) for number in range(1, count + 1)]


def _finish(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.2)
    _, labels = axis.get_legend_handles_labels()
    widest = max(map(len, labels))
    axis.legend(fontsize=7, ncols=max(1, min(len(labels), LEGEND_CHARACTERS // (widest + 5))), **BELOW)
