"""The report is one page that needs no other file."""

import re
from pathlib import Path

from reproduce.figures import draw_all
from reproduce.plan import split_networks
from reproduce.report import write_report
from reproduce.results import paper_results
from tests.reproduce.test_treatments import result_of


def test_the_report_needs_no_other_file(tmp_path: Path) -> None:
    ours = [result_of(network, 0.6 - 0.01 * i) for i, network in enumerate(split_networks("0", depths=[1, 7]))]
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


def test_means_by_depth_stand_beside_the_papers(tmp_path: Path) -> None:
    ours = [result_of(network, 0.25 + 0.1 * (network.target == "A")) for network in split_networks("1", ["AnB"], [3])]
    write_report(ours, paper_results(), {}, {}, tmp_path / "report.html")
    rows = re.findall(r"<tr><td>(.*?)</td><td>(this run|paper)</td>(.*?)</tr>", (tmp_path / "report.html").read_text())
    cells = {(name, who): re.findall(r"<td>(.*?)</td>", row) for name, who, row in rows}
    assert list(cells) == [("base", "this run"), ("base", "paper"), ("AnB", "this run"), ("AnB", "paper")]
    assert cells["AnB", "this run"] == ["", "", "", "0.300", "", "", "", ""]
    halves = [
        row.accuracy for row in paper_results() if row.treatment == "AnB" and row.n == 3 and row.split != "natman"
    ]
    assert cells["AnB", "paper"][3] == f"{sum(halves) / len(halves):.3f}"
