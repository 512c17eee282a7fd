"""One self-contained HTML page: figures, table, settings, and the paper's curve beside ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from caffe_compat.atomic_file import write_text
from reproduce.network import DEPTHS
from reproduce.results import COLUMNS, Result, comparable
from reproduce.treatments import TREATMENTS

TEMPLATE = "report.html.jinja"


def write_report(
    ours: Sequence[Result],
    paper: Sequence[Result],
    figures: Mapping[str, Path],
    settings: Mapping[str, object],
    file: Path,
) -> None:
    """Write ``report.html``; the figures (SVG files) are copied into it."""
    loader = PackageLoader("reproduce", package_path="")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    same = comparable(paper, ours)
    marked = [treatment for treatment in TREATMENTS.values() if treatment.mark]
    text = environment.get_template(TEMPLATE).render(
        figures={title: Markup(_inline(path)) for title, path in figures.items()},
        settings=settings,
        columns=COLUMNS,
        rows=[[_cell(getattr(result, column)) for column in COLUMNS] for result in ours],
        depths=DEPTHS,
        curves=[(t.name, _means(t.of(ours)), _means(t.of(same))) for t in marked if t.of(ours)],
    )
    write_text(file, text)


def _inline(file: Path) -> str:
    """The <svg> element of a file, to stand in a page beside others: its ids get the file's name in front."""
    text = file.read_text()
    text = text[text.index("<svg") :]
    for mark in ('id="', 'xlink:href="#', "url(#"):
        text = text.replace(mark, f"{mark}{file.stem}-")
    return text


def _means(rows: Sequence[Result]) -> dict[int, str]:
    """Mean accuracy at each n."""
    return {n: f"{mean(r.accuracy for r in rows if r.n == n):.3f}" for n in sorted({r.n for r in rows})}


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
