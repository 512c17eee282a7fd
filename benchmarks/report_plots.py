"""Bar charts of the benchmarks' numbers as small SVG files; the same numbers make the same bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

Rows = Mapping[str, Mapping[str, float]]
OURS, OTHERS = "#c0392b", ("#7f8c8d", "#aab2b3", "#5d6d7e", "#bfc9ca", "#34495e", "#d5dbdb", "#99a3a4")


def bars(rows: Rows, title: str, unit: str, path: Path, *, line: float | None = None, line_name: str = "") -> None:
    """One group of bars for each row, one bar for each contestant; ``line``: a limit across the chart."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    colours = _colours(names)
    height = 0.6 + 0.22 * sum(len(row) for row in rows.values()) + 0.25 * len(rows)
    settings: dict[Any, Any] = {
        "svg.hashsalt": "caffe_compat",
        "svg.fonttype": "none",
        "font.size": 8,
        "path.simplify": True,
    }
    with rc_context(settings):
        figure = Figure(figsize=(7, height + 0.5), layout="constrained")
        axes = figure.subplots()
        position, ticks = 0.0, []
        for label, row in rows.items():
            first = position
            for name, value in row.items():
                axes.barh(position, value, height=0.8, color=colours[name])
                axes.text(value, position, f" {name}: {value:.3g}", va="center", fontsize=6.5)
                position += 1
            ticks.append(((first + position - 1) / 2, label))
            position += 1
        if line is not None:
            axes.axvline(line, color="black", linewidth=0.8, linestyle="--")
            axes.text(line, -1, f" {line_name}", fontsize=6.5, va="center")
        axes.set_yticks([place for place, _ in ticks], [label for _, label in ticks])
        axes.invert_yaxis()
        axes.margins(x=0.25)
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _colours(names: list[str]) -> dict[str, str]:
    others = iter(OTHERS * (len(names) // len(OTHERS) + 1))
    return {name: OURS if name.startswith("ours") else next(others) for name in names}
