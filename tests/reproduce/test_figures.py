"""Figures are drawn, and the same results give the same files."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reproduce.comparisons import lines
from reproduce.figures import FAINT, GAPS, describe, draw_all, fig2_lines, fig2_points, fig3, reduced, save
from reproduce.plan import split_networks
from reproduce.results import Result, paper_results
from tests.reproduce.test_treatments import result_of

ROOT = Path(__file__).parent.parent.parent


def results_of(split: str, *extra: str) -> list[Result]:
    networks = split_networks(split, ["base", "BnB", "AnB", "BnB+", "AnB+", "random", *extra], [1, 7])
    return [result_of(network, 0.6 - 0.01 * i) for i, network in enumerate(networks)]


@pytest.mark.parametrize(
    ("split", "extra", "count"), [("0", (), 3), ("natman", (), 3), ("0", ("reduced", "netbase"), 4)]
)
def test_all_figures_that_the_results_allow(tmp_path: Path, split: str, extra: tuple[str, ...], count: int) -> None:
    files = draw_all(results_of(split, *extra), paper_results(), tmp_path)
    assert len(files) == count
    for drawn in files.values():
        file = drawn.svg
        ElementTree.parse(file)
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert file.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_same_results_give_the_same_drawing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        figure = fig2_lines(results_of("0"), paper_results())
        assert figure is not None
        save(figure, tmp_path / name)
    for suffix in (".svg", ".png", ".pdf"):
        one, two = ((tmp_path / name).with_suffix(suffix) for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_drawing_changes_no_setting_of_matplotlib(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save(Figure(), tmp_path / "figure")
    assert dict(matplotlib.rcParams) == before
    code = "import sys, reproduce.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_bases_alone_have_points_and_a_level(tmp_path: Path) -> None:
    files = draw_all([result for result in results_of("0") if result.treatment == "base"], [], tmp_path)
    assert sorted(drawn.svg.name for drawn in files.values()) == ["fig2_lines.svg", "fig2_points.svg"]


def points_of(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def is_faint(line: Line2D) -> bool:
    return bool(line.get_linewidth() == FAINT["lw"])


def drawn(axis: Axes) -> dict[str, Any]:
    """All that is drawn in one panel: lines, bands, limits, names; but what lies under it."""
    return {
        "lines": [(points_of(line), line.get_marker(), line.get_label()) for line in axis.lines if not is_faint(line)],
        "bands": [[np.asarray(path.vertices).tolist() for path in band.get_paths()] for band in axis.collections],
        "limits": (axis.get_xlim(), axis.get_ylim()),
        "names": [name for name in axis.get_legend_handles_labels()[1] if "underneath" not in name],
    }


def named(axis: Axes) -> dict[str, dict[float, float]]:
    """{name: {x: y}} of the lines with a name of their own."""
    return {str(line.get_label()): dict(points_of(line)) for line in axis.lines if str(line.get_label())[0] != "_"}


def test_the_authors_own_table_as_ours_gives_two_equal_panels() -> None:
    """Natural/man-made halves are no part of Fig. 2, on either side."""
    paper = paper_results()
    for make in (fig2_points, fig2_lines, fig3):
        figure = make(paper, paper)
        assert figure is not None
        half = len(figure.axes) // 2
        assert [drawn(axis) for axis in figure.axes[:half]] == [drawn(axis) for axis in figure.axes[half:]]


def test_means_of_the_authors_table_are_the_papers() -> None:
    figure = fig2_lines(paper_results(), paper_results())
    assert figure is not None
    means = named(figure.axes[0])
    assert means["base"][0] == pytest.approx(0.625, abs=5e-4)
    assert means["transfer AnB"][7] == pytest.approx(0.5425, abs=5e-5)
    halves = [row for row in paper_results() if row.split not in ("", "natman")]
    for label, treatment in (("selffer BnB", "BnB"), ("transfer AnB+", "AnB+")):
        for n, value in means[label].items():
            rows = [row.accuracy for row in halves if (row.treatment, row.n) == (treatment, n)]
            assert value == pytest.approx(sum(rows) / len(rows), rel=1e-12)
    assert figure.axes[0].get_ylim() == (0.52, 0.66)
    assert figure.axes[0].get_legend_handles_labels()[1][-3:] == [gap.meaning for gap in GAPS]


def test_fig2_has_a_point_for_each_of_the_papers_networks_on_random_halves() -> None:
    figure = fig2_points(paper_results(), paper_results())
    assert figure is not None
    counts = {name: len(points) for name, points in named(figure.axes[0]).items()}
    assert "random features" not in counts
    assert figure.axes[0].get_ylim() == (0.52, 0.66)
    points = sum(len(points_of(line)) for line in figure.axes[0].lines if line.get_marker() in ("o", "D"))
    assert points == sum(row.split in ("0", "1", "2", "3") for row in paper_results())


def test_bands_begin_at_the_base_and_are_named_where_they_exist() -> None:
    """A selffer above its base shows no co-adaptation."""
    networks = split_networks("0", ["base", "BnB", "AnB"], [1, 2])
    levels = {"base": 0.5, "BnB": 0.6, "AnB": 0.4}
    ours = [result_of(network, levels[network.treatment]) for network in networks]
    figure = fig2_lines(ours, [])
    assert figure is not None
    axis = figure.axes[0]
    assert axis.get_legend_handles_labels()[1][-1] == "features specific to their task"
    assert "fragile co-adaptation" not in axis.get_legend_handles_labels()[1]
    (band,) = axis.collections
    corners = {tuple(vertex) for path in band.get_paths() for vertex in np.asarray(path.vertices).tolist()}
    assert corners == {(0.0, 0.5), (1.0, 0.6), (2.0, 0.6), (1.0, 0.4), (2.0, 0.4)}


def test_random_features_are_compared_with_the_network_of_all_classes() -> None:
    """In the third panel of Fig. 3; where there is none, the halves' base stands in and is said to."""
    figure = fig3(paper_results(), paper_results())
    assert figure is not None
    whole = next(row.accuracy for row in paper_results() if row.family == "netbase")
    random = {row.n: row.accuracy for row in paper_results() if row.family == "nolearn"}
    minus_base = named(figure.axes[2])
    assert minus_base["random features"] == {0: 0, **{n: pytest.approx(a - whole) for n, a in random.items()}}
    halves = [row for row in paper_results() if row.family != "netbase"]
    other = fig3(halves, halves)
    assert other is not None
    assert "random features (minus the halves' base)" in named(other.axes[2])


def test_bars_are_the_intervals_of_differences_from_base() -> None:
    figure = fig2_lines(paper_results(), paper_results())
    assert figure is not None
    bars = [
        path.vertices for c in figure.axes[0].collections if isinstance(c, LineCollection) for path in c.get_paths()
    ]
    cross = [line for line in lines(paper_results()) if (line.halves, line.treatment) == ("random", "AnB")]
    ends = {tuple(np.asarray(bar)[:, 1]) for bar in bars}
    for line in cross:
        found = line.difference
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        low, high = line.mean + found.low - found.mean, line.mean + found.high - found.mean
        assert any(end == pytest.approx((low, high)) for end in ends)
    assert len(bars) == 7  # selffers and fine-tuned networks: four halves at most, too few


def faint_curves(axis: Axes) -> list[list[tuple[float, float]]]:
    return [points_of(line) for line in axis.lines if is_faint(line) and len(points_of(line))]


def test_the_authors_curves_lie_under_ours_where_the_images_are_theirs() -> None:
    ours = [result_of(network, 0.55) for network in split_networks("0", ["base", "BnB", "AnB"], [1, 2])]
    paper = paper_results()
    for make in (fig2_points, fig2_lines):
        other, same = make(ours, paper), make(ours, paper, True)
        assert other is not None
        assert same is not None
        assert faint_curves(other.axes[0]) == faint_curves(same.axes[1]) == []
        means = named(fig2_lines(paper, paper).axes[0])  # type: ignore[union-attr]
        curves = [{0: means["base"][0], **means[label]} for label in means if label != "base"]
        assert [dict(curve) for curve in faint_curves(same.axes[0])] == curves
        assert same.axes[0].get_legend_handles_labels()[1].count("the authors', underneath") == 1


def test_differences_from_base_lie_over_the_authors_whatever_the_images_are() -> None:
    ours = results_of("0")
    for same_images in (False, True):
        figure = fig3(ours, paper_results(), same_images)
        assert figure is not None
        natural, random, minus_base = figure.axes[:3]
        paper = [list(curve.items()) for curve in named(figure.axes[5]).values()]
        assert faint_curves(minus_base) == paper
        theirs = [list(named(figure.axes[4])["random features"].items())]
        assert faint_curves(random) == (theirs if same_images else [])
        assert len(faint_curves(natural)) == (2 if same_images else 0)


def test_no_curve_of_fig3_lies_under_its_legend() -> None:
    figure = fig3(paper_results(), paper_results(), True)
    assert figure is not None
    figure.draw_without_rendering()
    for axis in figure.axes:
        legend = axis.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        names = axis.xaxis.get_tightbbox()
        assert names is not None
        assert box.y1 < names.y0  # below the axis and its words
        assert all(
            box.y0 > other.bbox.y1 or box.y1 < other.bbox.y0 or box.x0 > other.bbox.x1 or box.x1 < other.bbox.x0
            for other in figure.axes
        )


def test_the_supplement_is_linear_and_double_logarithmic() -> None:
    figure = reduced(paper_results(), paper_results(), True)
    assert figure is not None
    assert [(axis.get_xscale(), axis.get_yscale()) for axis in figure.axes] == [("linear",) * 2] * 2 + [
        ("log",) * 2
    ] * 2
    sizes = {row.n: row.accuracy for row in paper_results() if row.family == "reduced"}
    for axis in figure.axes:
        assert named(axis)["reduced sets"] == sizes
    assert [list(map(dict, faint_curves(axis))) for axis in figure.axes] == [[sizes], [], [sizes], []]


def test_cuts_of_another_net_have_its_names_in_our_panels(tmp_path: Path) -> None:
    cuts = ("conv1", *(f"layer{i}" for i in range(2, 9)))
    drawings = draw_all(results_of("0"), paper_results(), tmp_path, cuts=cuts)
    text = drawings["Means and their interpretation (Fig. 2, bottom)"].text
    ours, theirs = text.split(" paper, ")
    assert "transfer AnB 0.555, 0.475 at 1 conv1, 7 layer7;" in ours
    assert "transfer AnB 0.628, 0.624, 0.619, 0.600, 0.578, 0.581, 0.542 at 1, 2, 3, 4, 5, 6, 7;" in theirs
    assert "8 layer8" in (tmp_path / "fig3.svg").read_text()


def test_the_words_for_a_figure_have_its_numbers() -> None:
    figure = fig2_lines(paper_results(), [])
    assert figure is not None
    text = describe(figure)
    assert text.startswith(
        "this run, top-1 accuracy by layer n at which the network is cut and retrained: base 0.625 at 0; "
    )
    assert "transfer AnB 0.628, 0.624, 0.619, 0.600, 0.578, 0.581, 0.542 at 1, 2, 3, 4, 5, 6, 7" in text
    points = fig2_points(paper_results(), [])
    assert points is not None
    assert "base 0.615 to 0.634 at 0" in describe(points)  # several networks at one place


#: RGB (linear) as seen without one kind of cone: Machado, Oliveira and Fernandes 2009, table 1, severity 1.0
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB (white: D65)."""
    x, y, z = np.cbrt(TO_XYZ @ np.clip(linear, 0, 1) / TO_XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", ["none", *BLINDNESS])
def test_curves_of_one_panel_are_told_apart_by_the_colour_blind(blindness: str) -> None:
    """By 20 or more in CIE 1976's distance (about 2 is seen side by side), or by their signs."""
    figures = [make(paper_results(), paper_results()) for make in (fig2_lines, fig3)]
    for axis in (axis for figure in figures if figure for axis in figure.axes):
        seen: list[tuple[str, np.ndarray]] = []
        for line in axis.lines:
            if str(line.get_label())[0] == "_" or is_faint(line):
                continue
            rgb = np.array(to_rgb(line.get_markerfacecolor()))
            linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
            colour = lab(np.array(BLINDNESS.get(blindness, np.eye(3).tolist())) @ linear)
            for marker, other in seen:
                assert marker != line.get_marker() or np.linalg.norm(colour - other) > 20
            seen.append((str(line.get_marker()), colour))
