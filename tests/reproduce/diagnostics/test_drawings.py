"""What the figures of the measurements show: their means and bars, panel by panel."""

from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from reproduce.comparisons import bootstrap
from reproduce.diagnostics.drawings import alignments, draw_diagnostics, single_layers, training_loss
from reproduce.diagnostics.measurements import Measurement
from reproduce.figures import describe
from reproduce.network import Network
from reproduce.treatments import BASE, CROSS, RANDOM, SELFFER

LAYERS = ("conv1", "conv2", "fc8")


def row(measure: str, network: Network, value: float, *, reference: str = "", layer: str = "") -> Measurement:
    return Measurement.of(network, measure=measure, value=value, seed="0", reference=reference, layer=layer)


def cross(n: int, base: str = "A", target: str = "B", split: str = "0") -> Network:
    return (SELFFER if base == target else CROSS).network(split, base, target, n)


def curves(axis: Axes) -> dict[str, dict[float, float]]:
    """{name: {x: y}}."""
    named = [line for line in axis.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): {float(x): float(y) for x, y in np.asarray(line.get_xydata())} for line in named}


def bars(axis: Axes) -> list[tuple[float, float, float]]:
    """(x, low, high) of each."""
    collections = [one for one in axis.collections if isinstance(one, LineCollection)]
    ends = [np.asarray(path.vertices) for one in collections for path in one.get_paths()]
    return [(float(both[0, 0]), float(both[0, 1]), float(both[1, 1])) for both in ends]


def made(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def test_training_loss_above_base_by_depth() -> None:
    values = {(4, "A"): 0.5, (4, "B"): 0.25, (7, "A"): 0.0}
    rows = [row("training_loss_gap", cross(n, half, half), value) for (n, half), value in values.items()]
    six = [0.1, 0.2, 0.4, 0.3, 0.7, 0.6]
    rows += [row("training_loss_gap", cross(4), value) for value in six]
    rows += [row("training_loss", cross(4), 9.0), row("training_loss_gap", RANDOM.network(7), 3.0)]
    (axis,) = made(training_loss(rows)).axes
    assert curves(axis) == {
        "base": {0: 0},
        "selffer BnB": {4: 0.375, 7: 0.0},
        "transfer AnB": {4: pytest.approx(mean(six))},
        "random features": {7: 3.0},
    }
    interval = bootstrap(six)
    assert sorted(bars(axis)) == [
        pytest.approx((4 - 0.075, 0.25, 0.5)),  # of two: from the least to the greatest
        pytest.approx((4 + 0.025, interval.low, interval.high)),
    ]
    assert (axis.get_xlabel(), axis.get_ylabel()) == (
        "layer n at which the network is cut and retrained",
        "training loss minus base",
    )
    (named,) = made(training_loss(rows, ("conv1", "layer1.0"))).axes
    assert [label.get_text() for label in named.get_xticklabels()][:4] == ["0", "1 conv1", "2 layer1.0", "3"]


def test_alignment_by_layer_a_panel_for_each_reference() -> None:
    rows = []
    for n in (1, 7):
        for place, layer in enumerate(LAYERS):
            rows += [
                row("cka", cross(n), n / 10 + place / 100, reference="half0B-seed2", layer=layer),
                row("cka", cross(n, "B", "A"), n / 10 + place / 50, reference="half0A", layer=layer),
                row("cka", cross(n), 1 - place / 10, reference="half0A-seed2", layer=layer),
                row("cka", cross(n, "A", "A"), 0.75, reference="half0A", layer=layer),
            ]
    figure = made(alignments(rows, ("conv1",)))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "selffer BnB, with base on the same images",
        "transfer AnB, with base on the same images",
        "transfer AnB, with the network it starts from",
    ]
    own, other, start = map(curves, figure.axes)
    assert own == {name: {0: 0.75, 1: 0.75, 2: 0.75} for name in ("n = 1 (conv1)", "n = 7")}
    assert other["n = 7"] == {x: pytest.approx(0.7 + x * 0.015) for x in range(3)}
    assert start["n = 1 (conv1)"] == {0: 1.0, 1: 0.9, 2: 0.8}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(LAYERS)
    assert "n = 7 0.700, 0.715, 0.730 at conv1, conv2, fc8" in describe(figure)


def test_curves_of_depths_have_signs_and_colours_of_their_own() -> None:
    rows = [row("cka", cross(n, "A", "A"), 0.5, reference="half0A", layer="conv1") for n in range(1, 8)]
    (axis,) = made(alignments(rows)).axes
    assert len({line.get_marker() for line in axis.lines}) == len({line.get_color() for line in axis.lines}) == 7


def test_single_layers_and_stitches() -> None:
    a, b = (BASE.network("0", half) for half in "AB")
    rows = [row("accuracy", a, 0.75), row("accuracy", b, 0.25)]
    for base, low in ((a, 0.0), (b, 0.5)):
        rows += [row("reinitialised_accuracy", base, low + i / 10, layer=layer) for i, layer in enumerate(LAYERS)]
        for i, layer in enumerate(LAYERS[:2]):
            rows += [row("stitched_accuracy_start", base, 0.125, layer=layer, reference="x")]
            rows += [row("stitched_accuracy", base, low + i, layer=layer, reference="x")]
    resets, stitches = made(single_layers(rows)).axes
    assert curves(resets) == {
        "base as it is": {0: 0.5, 1: 0.5, 2: 0.5},
        "that layer as drawn": {x: pytest.approx(0.25 + x / 10) for x in range(3)},
    }
    assert bars(resets) == [pytest.approx((x, x / 10, 0.5 + x / 10)) for x in range(3)]
    assert curves(stitches) == {
        "base as it is": {0: 0.5, 1: 0.5},
        "joined by a map that is trained": {0: 0.25, 1: 1.25},
        "joined by least squares": {0: 0.125, 1: 0.125},
    }
    (alone,) = made(single_layers([found for found in rows if found.measure == "reinitialised_accuracy"])).axes
    assert list(curves(alone)) == ["that layer as drawn"]


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    assert draw_diagnostics([], tmp_path) == {}
    rows = [row("training_loss_gap", cross(4), 0.5), row("training_loss_gap", cross(4, split="natman"), 9.5)]
    (drawn,) = draw_diagnostics(rows, tmp_path).values()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"diagnostics_loss.{end}" for end in ("pdf", "png", "svg")
    ]
    assert drawn.text == (
        "this run, training loss minus base by layer n at which the network is cut and retrained: base 0.000 at 0; "
        "transfer AnB 0.500 at 4."
    )
    (natural,) = draw_diagnostics(rows[1:], tmp_path).values()
    assert "transfer AnB 9.500 at 4" in natural.text
