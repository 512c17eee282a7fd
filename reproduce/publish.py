"""Table, figures and report of all networks that are finished in a folder, whether others train or not."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe_compat.errors import DataError, reading
from reproduce.comparisons import lines, write_comparisons
from reproduce.dataset import data_sets
from reproduce.every_test import write_tests
from reproduce.folder_networks import networks_in
from reproduce.network import Network
from reproduce.results import DONE, FAILED, Result, paper_results, results_in, write_results
from reproduce.runners import is_done
from reproduce.settings import SETTINGS, noted_checks, read_noted

TABLE, DIFFERENCES, FIGURES, REPORT_PAGE = "results.csv", "differences.csv", "figures", "report.html"


def publish(out: Path) -> tuple[list[Result], dict[str, str]]:
    """Write tables, differences, figures and report from what is finished in ``out``.

    Returns the table, and {network: why its result cannot be read}.

    Raises DataError when no network is finished, or a folder cannot be read.
    """
    # Imported here: matplotlib takes a second that --dry-run and a wrong option need not wait for.
    from reproduce.figures import draw_all
    from reproduce.report import Report, write_report

    networks = networks_in(out)
    results, problems = results_in(out)
    if not results and problems:
        raise DataError(next(iter(problems.values())))
    if not results:
        raise DataError(f"{out}: no network is finished here; `status {out}` says where each is")
    write_results(results, out / TABLE)
    write_tests([network for network in networks if network.name in {result.network for result in results}], out)
    write_comparisons(lines(results), out / DIFFERENCES)
    paper = paper_results()
    noted = read_noted(out / SETTINGS) if (out / SETTINGS).exists() else {}
    report = Report(
        headline=headline(noted, results, len(networks)),
        results=results,
        paper=paper,
        figures=draw_all(results, paper, out / FIGURES),
        settings=provenance(noted, results),
        unfinished=[*problems.items(), *unfinished(networks, out)],
        checks=noted_checks(out),
    )
    write_report(report, out / REPORT_PAGE)
    return results, problems


def headline(noted: Mapping[str, object], results: Sequence[Result], networks: int) -> str:
    """What was run, in one sentence."""
    choice = str(noted.get("data", ""))
    known = data_sets().get(choice.partition(":")[0])
    images = f"{choice}: {known.about}" if known else choice or "data that its folder does not name"
    splits = sorted({result.split for result in results if result.split})
    of = f" of split{'s' if len(splits) > 1 else ''} {', '.join(splits)}" if splits else ""
    return f"This run trained {len(results)} of {networks} networks{of} on {images}."


def provenance(noted: Mapping[str, object], results: Sequence[Result]) -> dict[str, str]:
    """Settings and machine, in words."""
    settings = {name: "" if value in (None, "None") else str(value) for name, value in noted.items()}
    return settings | {
        "training time of all networks": f"{sum(result.seconds for result in results) / 60:.1f} min",
        "report written on": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


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
