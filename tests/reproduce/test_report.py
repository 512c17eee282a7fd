"""The report is one page that needs no other file."""

import re
from pathlib import Path

from reproduce.figures import draw_all
from reproduce.plan import split_networks
from reproduce.report import Report, write_report
from reproduce.results import paper_results
from tests.reproduce.test_treatments import result_of


def test_the_report_needs_no_other_file(tmp_path: Path) -> None:
    ours = [result_of(network, 0.6 - 0.01 * i) for i, network in enumerate(split_networks("0", depths=[1, 7]))]
    figures = draw_all(ours, paper_results(), tmp_path)
    settings = {"split": "0", "data": "<glyphs>"}
    unfinished = [("half1A", "failed: for a reason")]
    report = Report(
        results=ours,
        paper=paper_results(),
        figures=figures,
        settings=settings,
        headline="This run.",
        unfinished=unfinished,
        checks={"list half0A.train": "600 images, MD5 x, the authors' is y"},
    )
    write_report(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == len(figures)
    assert not re.search(r'(src|href)="(?!#)', text.replace("xlink:href", "href"))
    assert "&lt;glyphs&gt;" in text
    assert all(result.network in text for result in ours)
    assert "0.625" in text  # the paper's base
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert re.findall(r'<svg role="img" aria-label="(.*?)"', text) == list(figures)
    assert text.index("This run.") < text.index("Yosinski, Clune")
    claim = (
        "<td>features grow specific: AnB at n = 7 is below base</td><td>open: 6 pairs or more are needed (--seeds)</td>"
    )
    assert claim in text
    assert "-8.3 (" in text  # the authors' AnB at n = 7
    assert "<tr><td>list half0A.train</td><td>600 images, MD5 x, the authors&#39; is y</td></tr>" in text
    assert "<tr><td>half1A</td><td>failed: for a reason</td></tr>" in text


def test_means_by_depth_stand_beside_the_papers(tmp_path: Path) -> None:
    ours = [result_of(network, 0.25 + 0.1 * (network.target == "A")) for network in split_networks("1", ["AnB"], [3])]
    write_report(Report(results=ours, paper=paper_results()), tmp_path / "report.html")
    rows = re.findall(r"<tr><td>(.*?)</td><td>(this run|paper)</td>(.*?)</tr>", (tmp_path / "report.html").read_text())
    cells = {(name, who): re.findall(r"<td>(.*?)</td>", row) for name, who, row in rows}
    assert list(cells) == [("base", "this run"), ("base", "paper"), ("AnB", "this run"), ("AnB", "paper")]
    assert cells["AnB", "this run"] == ["", "", "", "0.300", "", "", "", ""]
    halves = [
        row.accuracy for row in paper_results() if row.treatment == "AnB" and row.n == 3 and row.split != "natman"
    ]
    assert cells["AnB", "paper"][3] == f"{sum(halves) / len(halves):.3f}"


def test_natural_halves_have_a_table_of_their_own(tmp_path: Path) -> None:
    """They do not enter the means of random halves, on either side: the authors' own table makes both sides equal."""
    write_report(Report(results=paper_results(), paper=paper_results()), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for title, base, deepest in (("random halves", "0.625", "0.542"), ("natural / man-made halves", "0.595", "0.345")):
        part = text[text.index(f"by layer n on {title}") :].split("</table>")[0]
        rows = re.findall(r"<tr><td>(.*?)</td><td>(this run|paper)</td>(.*?)</tr>", part)
        cells = {(name, who): re.findall(r"<td>(.*?)</td>", row) for name, who, row in rows}
        assert all(cells[name, "this run"] == cells[name, "paper"] for name, _ in cells)
        assert cells["base", "paper"][0] == base
        assert cells["AnB", "paper"][7] == deepest
