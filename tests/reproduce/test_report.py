"""The report is one page that needs no other file."""

import re
from html import unescape
from pathlib import Path

import pytest

from reproduce.comparisons import lines
from reproduce.curves import Course
from reproduce.figures import Drawn, draw_all
from reproduce.filters import Picture
from reproduce.plan import split_networks
from reproduce.report import Report, write_report
from reproduce.results import paper_results
from tests.reproduce.test_treatments import result_of

SVG = '<?xml version="1.0"?><svg width="9pt"><metadata>x</metadata><g id="a" style="fill: #123456"/></svg>'
CLAIM = "features grow specific: AnB at n = 7 is below base"


def page(tmp_path: Path, **parts: object) -> str:
    write_report(Report(paper=paper_results(), **parts), tmp_path / "report.html")  # type: ignore[arg-type]
    return (tmp_path / "report.html").read_text()


def table(text: str, title: str) -> dict[str, list[str]]:
    """{first cell: the others} of the table below a heading."""
    part = text[re.search(rf"<h2 [^>]*>{re.escape(title)}</h2>", text).end() :].split("</table>")[0]  # type: ignore[union-attr]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', part)
    return {unescape(name): [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", cells)] for name, cells in rows}


def test_the_report_needs_no_other_file(tmp_path: Path) -> None:
    ours = [result_of(network, 0.6 - 0.01 * i) for i, network in enumerate(split_networks("0", depths=[1, 7]))]
    figures = draw_all(ours, paper_results(), tmp_path)
    text = page(
        tmp_path,
        results=ours,
        figures=figures,
        settings={"data": "<glyphs>"},
        headline="This run.",
        unfinished=[("half1A", "failed: for a reason")],
        checks={"list half0A.train": "600 images, MD5 x, the authors' is y"},
        checksums={"results.csv": "00ff"},
        calls=[{"date": "today", "command": "run_paper.py --layers 1,7", "machine": "a machine"}],
        filters=[Picture("data:image/png;base64,AA", 3, 2, "the filters of half0A")],
    )
    assert text.count("<svg") == len(figures)
    assert not re.search(r'(src|href)="(?!#|data:)|url\((?!#)|@import', text.replace("xlink:href", "href"))
    assert "&lt;glyphs&gt;" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in re.findall(r'<a [^>]*href="(.*?)"', text)} <= set(ids)
    names = re.findall(r'<svg role="img" aria-label="(.*?)"', text)
    assert [unescape(name) for name in names] == [f"{title}. {drawn.text}" for title, drawn in figures.items()]
    assert text.index("This run.") < text.index("Yosinski, Clune")
    claims = table(text, "What this run says of the paper's claims".replace("'", "&#39;"))
    assert claims[CLAIM][0] == "open: 6 pairs or more are needed (--seeds)"
    assert claims[CLAIM][2].startswith("-8.3 (")  # the authors' AnB at n = 7
    assert set(table(text, "All networks")) == {result.network for result in ours}
    assert table(text, "The images beside the authors&#39;")["list half0A.train"] == [
        "600 images, MD5 x, the authors' is y"
    ]
    assert table(text, "Networks without a result") == {"half1A": ["failed: for a reason"]}
    assert table(text, "The commands that made this run") == {
        "today": ["run_paper.py --layers 1,7", "", "", "a machine"]
    }
    assert table(text, "Checksums (SHA-256) of tables and data") == {"results.csv": ["00ff"]}
    assert (
        '<img src="data:image/png;base64,AA" width="3" height="2" alt="">\n<figcaption>the filters of half0A<' in text
    )


def test_figures_take_the_colours_of_the_ground_that_they_stand_on(tmp_path: Path) -> None:
    (tmp_path / "one.svg").write_text(SVG)
    text = page(tmp_path, results=[], figures={"One": Drawn(tmp_path / "one.svg", "base 0.5 at 0.")})
    assert (
        '<svg role="img" aria-label="One. base 0.5 at 0." width="9pt"><g id="one-a" style="fill: var(--c123456)"/>'
        in text
    )
    light, dark = re.findall(r"--c123456: (#\w{6});", text)
    assert (light, dark) == ("#123456", "#327bc4") or dark != light
    assert text.index("prefers-color-scheme: dark") < text.index(f"--c123456: {dark}")


def test_means_by_depth_stand_beside_the_papers_with_their_spread(tmp_path: Path) -> None:
    ours = [result_of(network, 0.25 + 0.1 * (network.target == "A")) for network in split_networks("1", ["AnB"], [3])]
    cells = table(page(tmp_path, results=ours), "Mean accuracy by layer n on random halves")
    assert list(cells) == ["base, this run", "base, paper", "AnB, this run", "AnB, paper"]
    assert cells["AnB, this run"] == ["", "", "", "0.300 ± 0.071 (2)", "", "", "", ""]
    (line,) = [
        found for found in lines(paper_results()) if (found.halves, found.treatment, found.n) == ("random", "AnB", 3)
    ]
    assert cells["AnB, paper"][3] == f"{line.mean:.3f} ± {line.sd:.3f} ({line.networks})"


def test_natural_halves_have_a_table_of_their_own(tmp_path: Path) -> None:
    """They do not enter the means of random halves, on either side: the authors' own table makes both sides equal."""
    text = page(tmp_path, results=paper_results())
    for title, base, deepest in (("random halves", "0.625", "0.542"), ("natural / man-made halves", "0.595", "0.345")):
        cells = table(text, f"Mean accuracy by layer n on {title}")
        names = [name.removesuffix(", paper") for name in cells if name.endswith(", paper")]
        assert all(cells[f"{name}, this run"] == cells[f"{name}, paper"] for name in names)
        assert cells["base, paper"][0].split()[0] == base
        assert cells["AnB, paper"][7].split()[0] == deepest
    differences = table(text, "Differences from base, network by network")
    assert all(row[2] == row[3] for row in differences.values())


def test_each_network_has_its_curves(tmp_path: Path) -> None:
    networks = split_networks("0", ["base"], [])
    courses = [
        Course(network="half0A", loss=[(0, 4.0), (50, float("nan")), (100, 1.0)], accuracy=[(0, 0.0), (200, 0.75)]),
        Course(network="half0B", loss=[(0, 8.0)], accuracy=[]),
    ]
    text = page(tmp_path, results=[result_of(network, 0.5) for network in networks], courses=courses)
    assert "<summary>base: 2</summary>" in text
    assert (
        'aria-label="half0A: training loss from 4.000 to 1.000; test accuracy from 0.000 to 0.750; 200 iterations"'
        in text
    )
    # 300 x 100, 0 at the bottom, the greatest loss of all networks on top
    assert 'points="0,50 150,88"' in text
    assert 'points="0,100 300,25"' in text
    assert "half0B: training loss 8.000</figcaption>" in text


@pytest.mark.parametrize(
    "what", ["<main", 'class="skip"', "viewport", "@media print", "color-scheme", ":focus-visible"]
)
def test_the_page_is_for_every_reader(tmp_path: Path, what: str) -> None:
    assert what in page(tmp_path, results=[])


def test_cuts_of_another_net_have_their_names(tmp_path: Path) -> None:
    ours = [result_of(network, 0.5) for network in split_networks("1", ["AnB"], [2])]
    text = page(tmp_path, results=ours, cuts=("conv1", "layer1.0"))
    assert '<th scope="col">n = 2 (layer1.0)</th><th scope="col">n = 3</th>' in text
    assert list(table(text, "Differences from base, network by network")) == ["AnB, n = 2 (layer1.0)"]
