"""One self-contained HTML page: figures, table, settings, and the paper's curve beside ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from caffe_compat.atomic_file import write_text
from reproduce.comparisons import lines, verdicts
from reproduce.network import DEPTHS
from reproduce.results import COLUMNS, Result, of_kind
from reproduce.treatments import TREATMENTS

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page says."""

    results: Sequence[Result]
    paper: Sequence[Result]
    headline: str = ""  # what was run, in one sentence
    figures: Mapping[str, Path] = field(default_factory=dict)  # {title: SVG file}
    settings: Mapping[str, object] = field(default_factory=dict)
    unfinished: Sequence[tuple[str, str]] = ()  # (network, why it has no result)
    checks: Mapping[str, str] = field(default_factory=dict)  # {what of the images: how it compares with the authors'}


def write_report(report: Report, file: Path) -> None:
    """Write ``report.html``; the figures are copied into it."""
    loader = PackageLoader("reproduce", package_path="")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    ours = report.results
    paper = {(line.halves, line.treatment, line.n): line for line in lines(report.paper)}
    text = environment.get_template(TEMPLATE).render(
        report=report,
        figures={title: Markup(_inline(path, title)) for title, path in report.figures.items()},
        columns=COLUMNS,
        rows=[[_cell(getattr(result, column)) for column in COLUMNS] for result in ours],
        depths=sorted({*DEPTHS, *(result.n for result in ours if result.n and result.base)}),
        claims=list(zip(verdicts(ours), verdicts(report.paper), strict=True)),
        differences=[
            (line, paper.get((line.halves, line.treatment, line.n))) for line in lines(ours) if line.difference
        ],
        groups=[(title, _curves(rows, same)) for title, rows, same in _groups(ours, report.paper)],
    )
    write_text(file, text)


def _groups(ours: Sequence[Result], paper: Sequence[Result]) -> list[tuple[str, list[Result], list[Result]]]:
    """(title, our results, the authors') for the random halves, and for the natural/man-made ones."""
    found = []
    for title, natural in (("random halves", False), ("natural / man-made halves", True)):
        rows = of_kind(ours, natural)
        if any(row.split for row in rows) or (not natural and rows):
            found.append((title, rows, of_kind(paper, natural)))
    return found


def _curves(ours: Sequence[Result], paper: Sequence[Result]) -> list[tuple[str, dict[int, str], dict[int, str]]]:
    marked = [treatment for treatment in TREATMENTS.values() if treatment.mark]
    return [(t.name, _means(t.of(ours)), _means(t.of(paper))) for t in marked if t.of(ours)]


def _inline(file: Path, title: str) -> str:
    """The <svg> element of a file, to stand in a page beside others: its ids get the file's name in front.

    Who cannot see it hears its title.
    """
    text = file.read_text()
    text = text[text.index("<svg") :]
    for mark in ('id="', 'xlink:href="#', "url(#"):
        text = text.replace(mark, f"{mark}{file.stem}-")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _means(rows: Sequence[Result]) -> dict[int, str]:
    """Mean accuracy at each n."""
    return {n: f"{mean(r.accuracy for r in rows if r.n == n):.3f}" for n in sorted({r.n for r in rows})}


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
