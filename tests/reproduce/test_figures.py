"""Figures are drawn, and the same results give the same files."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest

from reproduce.figures import draw_all
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
    for file in files.values():
        ElementTree.parse(file)
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_drawing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw_all(results_of("0"), paper_results(), tmp_path / name)
    assert (tmp_path / "one/fig2_lines.svg").read_bytes() == (tmp_path / "two/fig2_lines.svg").read_bytes()


def test_drawing_changes_no_setting_of_matplotlib(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw_all(results_of("0"), paper_results(), tmp_path)
    assert dict(matplotlib.rcParams) == before
    code = "import sys, reproduce.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_bases_alone_have_points_and_a_level(tmp_path: Path) -> None:
    files = draw_all([result for result in results_of("0") if result.treatment == "base"], [], tmp_path)
    assert sorted(file.name for file in files.values()) == ["fig2_lines.svg", "fig2_points.svg"]
