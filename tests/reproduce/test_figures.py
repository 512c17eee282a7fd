"""Figures and report are drawn, whole and self-contained."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reproduce.figures import draw_all
from reproduce.plan import split_networks
from reproduce.report import write_report
from reproduce.results import Result, paper_results


def results_of(split: str, *extra: str) -> list[Result]:
    networks = split_networks(split, ["base", "BnB", "AnB", "BnB+", "AnB+", "random", *extra], [1, 7])
    return [
        Result(n.name, n.split, n.base, n.target, n.n, n.treatment, 0.6 - 0.01 * i, 0.5, 1.0, 1.0)
        for i, n in enumerate(networks)
    ]


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


def test_the_report_needs_no_other_file(tmp_path: Path) -> None:
    ours = results_of("0")
    figures = draw_all(ours, paper_results(), tmp_path)
    write_report(ours, paper_results(), figures, {"split": "0", "data": "<glyphs>"}, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == len(figures)
    assert not re.search(r'(src|href)="(?!#)', text.replace("xlink:href", "href"))
    assert "&lt;glyphs&gt;" in text
    assert all(result.network in text for result in ours)
    assert "0.625" in text  # the paper's base
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
