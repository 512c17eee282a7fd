"""One self-contained HTML page: what was run, verdicts, figures, tables, and where the numbers come from."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from caffe_compat.atomic_file import write_text
from reproduce.colours import on_dark
from reproduce.comparisons import Line, lines, verdicts
from reproduce.curves import Course, Curve
from reproduce.figures import Drawn
from reproduce.filters import Picture
from reproduce.network import DEPTHS
from reproduce.results import COLUMNS, Result
from reproduce.treatments import TREATMENTS

TEMPLATE = "report.html.jinja"
CURVES, FILTERS = "How each network went", "First-layer filters of the base networks"
COLOUR = re.compile("#([0-9a-f]{6})")
#: of the small curves: their colours, and width and height in the units of their points
LOSS, ACCURACY = "#1f3b8c", "#d55e00"
WIDTH, HEIGHT = 300, 100
#: how the kinds of halves are called in titles
HALVES = {"random": "random halves", "natural": "natural / man-made halves", "pair": "two data sets"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page says."""

    results: Sequence[Result]
    paper: Sequence[Result]
    headline: str = ""  # what was run, and what it says of each claim, in one sentence
    figures: Mapping[str, Drawn] = field(default_factory=dict)  # by title
    courses: Sequence[Course] = ()
    filters: Sequence[Picture] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    calls: Sequence[Mapping[str, str]] = ()  # the commands that made it: date, command, commit, versions, machine
    trained: str = ""  # from when to when
    written: str = ""  # the page: by what, on which machine
    checksums: Mapping[str, str] = field(default_factory=dict)  # {file: SHA-256}
    unfinished: Sequence[tuple[str, str]] = ()  # (network, why it has no result)
    checks: Mapping[str, str] = field(default_factory=dict)  # {what of the images: how it compares with the authors'}
    cuts: Sequence[str] = ()  # the layers that cuts n = 1, 2, ... lie behind, where they are not CaffeNet's


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts under headings; the first column says what its row is about."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""
    long: bool = False  # closed until somebody opens it
    numbers: bool = False  # cells are short and stay on one line


@dataclass(frozen=True, kw_only=True)
class SmallCurve:
    """A network's course in the units of WIDTH and HEIGHT."""

    name: str
    numbers: str  # below it
    text: str  # for who cannot see it
    loss: str  # the points of a polyline
    accuracy: str


def write_report(report: Report, file: Path) -> None:
    """Write ``report.html``; the figures are copied into it."""
    loader = PackageLoader("reproduce", package_path="")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    colours = sorted({LOSS, ACCURACY, *(f"#{c}" for drawn in report.figures.values() for c in _colours_in(drawn))})
    claims, tables, networks = _claims(report), [*_means(report), *_differences(report)], _networks(report.results)
    curves, origin = _small_curves(report), [table for table in _origin(report) if table.rows]
    pictures = [title for title, there in ((CURVES, curves), (FILTERS, report.filters)) if there]
    before, after = [table.title for table in tables], [table.title for table in (*origin, networks)]
    text = environment.get_template(TEMPLATE).render(
        report=report,
        contents=[claims.title, *report.figures, *before, *pictures, *after],
        id=_id,
        claims=claims,
        figures={title: _inline(drawn, title) for title, drawn in report.figures.items()},
        tables=tables,
        curves_title=CURVES,
        curves=curves,
        greatest_loss=f"{_greatest_loss(report.courses):.1f}",
        filters_title=FILTERS,
        origin=origin,
        networks=networks,
        colours=[(colour[1:], colour, on_dark(colour)) for colour in colours],
        loss=LOSS[1:],
        accuracy=ACCURACY[1:],
        size=(WIDTH, HEIGHT),
    )
    write_text(file, text)


def _id(title: str) -> str:
    """What a link in the page leads to."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


# -- tables -----------------------------------------------------------------------------


def _claims(report: Report) -> Table:
    rows = [
        (ours.claim, ours.verdict, *(v.difference.text() if v.difference else "" for v in (ours, paper)))
        for ours, paper in zip(verdicts(report.results), verdicts(report.paper), strict=True)
    ]
    return Table(
        title="What this run says of the paper's claims",
        head=("claim", "verdict", "this run", "the authors' networks"),
        rows=rows,
        about="Differences in points of 100, of networks of the same seed, split and half; in brackets the 95 % "
        "bootstrap interval of their mean, for six pairs or more. A claim counts as shown, or as contradicted, only "
        "where the interval leaves zero out.",
    )


def _means(report: Report) -> list[Table]:
    """Mean accuracies at each depth, ours and the authors', for each kind of halves."""
    at = {
        who: {(line.halves, line.treatment, line.n): line for line in lines(results)}
        for who, results in (("this run", report.results), ("paper", report.paper))
    }
    depths = sorted({0, *DEPTHS, *(result.n for result in report.results if result.base)})
    marked = [treatment.name for treatment in TREATMENTS.values() if treatment.mark]
    tables = []
    for halves, title in HALVES.items():
        there = [name for name in marked if any(key[:2] == (halves, name) for key in at["this run"])]
        rows = [
            (f"{name}, {who}", *(_mean(found.get((halves, name, n))) for n in depths))
            for name in there
            for who, found in at.items()
        ]
        if rows:
            tables.append(
                Table(
                    title=f"Mean accuracy by layer n on {title}",
                    head=("treatment", *(_cut(n, report.cuts) for n in depths)),
                    rows=rows,
                    about="The mean of the networks ± the standard deviation between them, and how many they are.",
                    numbers=True,
                )
            )
    return tables


def _cut(n: int, cuts: Sequence[str]) -> str:
    """``n = 4``, with the name of the layer where cuts have names: ``n = 4 (layer2.0)``."""
    return f"n = {n}" + (f" ({cuts[n - 1]})" if 0 < n <= len(cuts) else "")


def _mean(line: Line | None) -> str:
    if line is None:
        return ""
    return f"{line.mean:.3f}" + ("" if line.sd is None else f" ± {line.sd:.3f}") + f" ({line.networks})"


def _differences(report: Report) -> list[Table]:
    paper = {(line.halves, line.treatment, line.n): line for line in lines(report.paper)}
    rows = []
    for line in lines(report.results):
        if line.difference:
            theirs = paper.get((line.halves, line.treatment, line.n))
            other = theirs.difference.text() if theirs and theirs.difference else ""
            rows.append(
                (
                    f"{line.treatment}, {_cut(line.n, report.cuts)}",
                    line.halves,
                    _mean(line),
                    line.difference.text(),
                    other,
                )
            )
    if not rows:
        return []
    about = "In points of 100; random features are compared with the network of all classes."
    head = ("treatment", "halves", "accuracy", "minus base", "the authors'")
    return [Table(title="Differences from base, network by network", head=head, rows=rows, about=about, numbers=True)]


def _origin(report: Report) -> list[Table]:
    """What has no result, and where the numbers come from."""
    seconds = sum(result.seconds for result in report.results)
    times = {
        "trained": report.trained,
        "training time of all networks": f"{seconds / 60:.1f} min" if seconds else "",
        "this page was written by": report.written,
    }
    facts = [(name, text) for name, text in {**report.settings, **times}.items() if text]
    call = ("date", "command", "commit", "versions", "machine")
    return [
        Table(title="Networks without a result", head=("network", "why"), rows=report.unfinished),
        Table(
            title="The images beside the authors'", head=("what", "how it compares"), rows=list(report.checks.items())
        ),
        Table(title="Settings and times", head=("what", "value"), rows=facts),
        Table(
            title="The commands that made this run",
            head=call,
            rows=[[noted.get(name, "") for name in call] for noted in report.calls],
        ),
        Table(
            title="Checksums (SHA-256) of tables and data",
            head=("file", "SHA-256"),
            rows=list(report.checksums.items()),
            long=True,
        ),
    ]


def _networks(results: Sequence[Result]) -> Table:
    rows = [[_cell(getattr(result, column)) for column in COLUMNS] for result in results]
    return Table(title="All networks", head=COLUMNS, rows=rows, long=True, numbers=True)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


# -- pictures ---------------------------------------------------------------------------


def _small_curves(report: Report) -> dict[str, list[SmallCurve]]:
    """The courses of the networks of each treatment."""
    courses = {course.network: course for course in report.courses}
    most = _greatest_loss(report.courses)
    found = {}
    for treatment in TREATMENTS.values():
        small = [
            _small(courses[result.network], most)
            for result in treatment.of(report.results)
            if result.network in courses
        ]
        if small:
            found[treatment.label] = small
    return found


def _greatest_loss(courses: Sequence[Course]) -> float:
    """The scale of all small curves, so that they can be compared."""
    return max((loss for course in courses for _, loss in course.loss if math.isfinite(loss)), default=1.0)


def _small(course: Course, greatest_loss: float) -> SmallCurve:
    last = max((x for x, _ in (*course.loss, *course.accuracy)), default=1) or 1
    parts = [
        f"{name} {curve[-1][1]:.3f}"
        for name, curve in (("training loss", course.loss), ("test accuracy", course.accuracy))
        if curve
    ]
    starts = [
        f"{name} from {curve[0][1]:.3f} to {curve[-1][1]:.3f}"
        for name, curve in (("training loss", course.loss), ("test accuracy", course.accuracy))
        if curve
    ]
    return SmallCurve(
        name=course.network,
        numbers=", ".join(parts),
        text=f"{course.network}: {'; '.join(starts)}; {last} iterations",
        loss=_points(course.loss, last, greatest_loss),
        accuracy=_points(course.accuracy, last, 1.0),
    )


def _points(curve: Curve, last: int, top: float) -> str:
    """A polyline's points; 0 is at the bottom, ``top`` above."""
    finite = [(x, y) for x, y in curve if math.isfinite(y)]
    return " ".join(f"{round(WIDTH * x / last)},{round(HEIGHT * (1 - y / (top or 1)))}" for x, y in finite)


def _colours_in(drawn: Drawn) -> set[str]:
    return set(COLOUR.findall(drawn.svg.read_text()))


def _inline(drawn: Drawn, title: str) -> Markup:
    """The <svg> element of a file, to stand in a page beside others: its ids get the file's name in front.

    Its colours become the page's variables, which are others on dark ground, and its font the page's.  Who cannot see
    it hears its numbers.
    """
    text = drawn.svg.read_text()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = COLOUR.sub(r"var(--c\1)", text)
    for mark in ('id="', 'xlink:href="#', "url(#"):
        text = text.replace(mark, f"{mark}{drawn.svg.stem}-")
    name = escape(f"{title}. {drawn.text}")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{name}"', 1))
