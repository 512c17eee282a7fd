"""One self-contained HTML page: figures, table, settings, and the paper's curve beside ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from caffe_compat.atomic_file import write_text
from reproduce.plan import DEPTHS, TREATMENTS
from reproduce.results import COLUMNS, Result

TEMPLATE = "report.html.jinja"


def write_report(
    ours: Sequence[Result],
    paper: Sequence[Result],
    figures: Mapping[str, Path],
    settings: Mapping[str, object],
    file: Path,
) -> None:
    """Write ``report.html``; the figures (SVG files) are copied into it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    natman = {r.split for r in ours if r.split} == {"natman"}
    same = [r for r in paper if not r.split or (r.split == "natman") == natman]
    text = environment.get_template(TEMPLATE).render(
        figures={title: Markup(_inline(path)) for title, path in figures.items()},
        settings=settings,
        columns=COLUMNS,
        rows=[[_cell(getattr(result, column)) for column in COLUMNS] for result in ours],
        depths=DEPTHS,
        curves=[(t, _means(ours, t), _means(same, t)) for t in TREATMENTS if _means(ours, t)],
    )
    write_text(file, text)


def _inline(file: Path) -> str:
    """An SVG file without what only a file of its own needs; ids are made its own."""
    text = file.read_text()
    text = text[text.index("<svg") :]
    for mark in ('id="', 'xlink:href="#', "url(#"):
        text = text.replace(mark, f"{mark}{file.stem}-")
    return text


def _means(results: Sequence[Result], treatment: str) -> dict[int, str]:
    rows = [r for r in results if r.treatment == treatment and r.family not in ("netbase", "reduced")]
    return {n: f"{mean(r.accuracy for r in rows if r.n == n):.3f}" for n in sorted({r.n for r in rows})}


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
