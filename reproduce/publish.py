"""Table, figures and report of all networks that are finished in a folder, whether others train or not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat.errors import DataError, reading
from reproduce.comparisons import Verdict, lines, verdicts, write_comparisons
from reproduce.curves import course_of
from reproduce.dataset import DataSet, data_sets
from reproduce.diagnostics import TABLE as DIAGNOSTICS
from reproduce.diagnostics.measurements import read_measurements
from reproduce.every_test import write_tests
from reproduce.folder_networks import networks_in
from reproduce.network import Network
from reproduce.provenance import checksums, dates, machine, noted_calls, versions
from reproduce.results import DONE, FAILED, Result, logs_in, paper_results, result_of, write_results
from reproduce.runners import is_done
from reproduce.settings import SETTINGS, noted_checks, noted_shape, read_noted
from reproduce.treatments import BASE

if TYPE_CHECKING:
    from reproduce.report import Report

TABLE, DIFFERENCES, FIGURES, REPORT_PAGE = "results.csv", "differences.csv", "figures", "report.html"


def publish(out: Path) -> tuple[list[Result], dict[str, str]]:
    """Write tables, differences, figures and report from what is finished in ``out``.

    Returns the table, and {network: why its result cannot be read}.

    Raises DataError when no network is finished, or a folder cannot be read.
    """
    # Imported here: OpenCV and matplotlib take a second that --dry-run and a wrong option need not wait for.
    from reproduce.filters import first_filters
    from reproduce.report import Report

    networks = networks_in(out)
    logs, problems = logs_in(out)  # read once: they are megabytes on ImageNet
    results = [result_of(network, log) for network, log in logs]
    if not results and problems:
        raise DataError(next(iter(problems.values())))
    if not results:
        raise DataError(f"{out}: no network is finished here; `status {out}` says where each is")
    finished = {result.network for result in results}
    write_tests(logs, out)
    courses = [course_of(network, log) for network, log in logs]
    bases = [network for network in BASE.of(networks) if network.name in finished]
    noted = read_noted(out / SETTINGS) if (out / SETTINGS).exists() else {}
    data_set = None if is_of_a_pair(noted) else data_sets().get(str(noted.get("data", "")).partition(":")[0])
    report = Report(
        headline=headline(noted, results, len(networks)),
        results=results,
        paper=paper_results(),
        courses=courses,
        filters=[picture for network in bases if (picture := first_filters(network, out))],
        settings=settings_in_words(noted),
        calls=noted_calls(out),
        trained=dates(courses),
        unfinished=[*problems.items(), *unfinished(networks, out)],
        checks=noted_checks(out),
        cuts=cuts_of(networks, noted, out),
    )
    write_all(report, out, same_images=bool(data_set and data_set.of_the_paper))
    return results, problems


def cuts_of(networks: Sequence[Network], noted: Mapping[str, object], out: Path) -> tuple[str, ...]:
    """The layers, or blocks, that the cuts n = 1, 2, ... lie behind; () for our own nets, whose cuts are numbers."""
    folders = [out / network.name for network in BASE.of(networks)]
    if not folders or all(noted.get(name) in (None, "None") for name in ("prototxt", "model")):
        return ()
    from reproduce.learned_layers import learned_layers  # here: it brings PyTorch

    return learned_layers(folders[0] / "train.prototxt", *noted_shape(out)).names


def write_all(report: "Report", out: Path, *, same_images: bool) -> None:
    """Table, differences, figures, and the page that shows them; ``same_images``: they are the authors'."""
    # Imported here: matplotlib takes a second that --dry-run and a wrong option need not wait for.
    from reproduce.diagnostics.drawings import draw_diagnostics
    from reproduce.figures import draw_all
    from reproduce.report import write_report

    out.mkdir(parents=True, exist_ok=True)
    write_results(report.results, out / TABLE)
    write_comparisons(lines(report.results), out / DIFFERENCES)
    figures = draw_all(report.results, report.paper, out / FIGURES, same_images=same_images, cuts=report.cuts)
    if (out / DIAGNOSTICS).exists():
        figures |= draw_diagnostics(read_measurements(out / DIAGNOSTICS), out / FIGURES, cuts=report.cuts)
    report = replace(
        report,
        figures=figures,
        written=f"{versions()}; {machine()}",
        checksums=checksums(out, (TABLE, DIFFERENCES, DIAGNOSTICS)),
    )
    write_report(report, out / REPORT_PAGE)


def headline(noted: Mapping[str, object], results: Sequence[Result], networks: int) -> str:
    """What was run, and what it says of each claim, in one sentence."""
    choice = str(noted.get("data", ""))
    pair = is_of_a_pair(noted)
    splits = sorted({result.split for result in results if result.split})
    of = f" of split{'s' if len(splits) > 1 else ''} {', '.join(splits)}" if splits and not pair else ""
    images = (
        f"{noted['data_a']} as A and {noted['data_b']} as B, not on the paper's ImageNet"
        if pair
        else _images_in_words(choice, data_sets().get(choice.partition(":")[0]))
    )
    return f"This run trained {len(results)} of {networks} networks{of} on {images}; {in_words(verdicts(results))}."


def _images_in_words(choice: str, data_set: DataSet | None) -> str:
    if not choice:
        return "data that its folder does not name"
    if not data_set:
        return f"{choice}, not on the paper's ImageNet"
    return f"{choice} ({data_set.about})" + ("" if data_set.of_the_paper else ", not on the paper's ImageNet")


def in_words(found: Sequence[Verdict]) -> str:
    """``of the paper's claims it shows that ...``: each claim with what becomes of it."""
    kinds: dict[str, list[str]] = {"it shows": [], "it contradicts": [], "it leaves open": [], "it did not run": []}
    for verdict in found:
        kind = {"shown": "it shows", "contradicted": "it contradicts", "not run": "it did not run"}
        kinds[kind.get(verdict.verdict, "it leaves open")].append(f"“{verdict.claim.partition(':')[0]}”")
    return "of the paper's claims " + "; ".join(
        f"{kind} {', '.join(claims)}" for kind, claims in kinds.items() if claims
    )


def settings_in_words(noted: Mapping[str, object]) -> dict[str, str]:
    """The options that decide the numbers; those that were left alone are left out."""
    unused = ("data", "split") if is_of_a_pair(noted) else ()
    said = {name: str(value) for name, value in noted.items() if name not in unused}
    return {name.replace("_", "-"): value for name, value in said.items() if value not in ("None", "False")}


def is_of_a_pair(noted: Mapping[str, object]) -> bool:
    """Whether a run's halves are two data sets."""
    return noted.get("data_a") not in (None, "None")


def unfinished(networks: Sequence[Network], out: Path) -> list[tuple[str, str]]:
    """(network, why it has no result) of those that are not in the table."""
    return [(network.name, reason_of(network, out)) for network in networks if not is_done(network, out)]


def reason_of(network: Network, out: Path) -> str:
    """Why a network has no result: what its last try said, or that it, or its base network, is not trained yet."""
    file = out / network.name / FAILED
    if file.exists():
        with reading(file, "a line of text"):
            return f"failed: {file.read_text(errors='replace').strip()}"
    base = network.base_network
    if base and not (out / base / DONE).exists():
        return f"waits for {base}"
    return "not finished"
