"""From the networks' logs to one table."""

import csv
import io
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError, SolverError
from reproduce.folder_networks import networks_in
from reproduce.network import Network
from reproduce.splits import NATURAL_SPLIT
from reproduce.treatments import (
    BASE,
    CROSS,
    CROSS_TUNED,
    NETBASE,
    RANDOM,
    REDUCED,
    SELFFER,
    SELFFER_TUNED,
    Treatment,
)

COLUMNS = (
    *("network", "split", "base", "target", "n"),
    *("treatment", "accuracy", "accuracy_final", "loss", "seconds"),
)
METRICS = "train.jsonl"
DONE = "done"  # the file that train_one leaves in a finished network's folder
FAILED = "failed"  # the file that says why a network's last try ended without a result
BEST_TESTS = 10
PAPER_TABLE = Path(__file__).parent / "paper_results.csv"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A row of the table; accuracies from 0 to 1, ``loss`` the last test's."""

    network: str
    split: str
    base: str
    target: str
    n: int
    treatment: str
    accuracy: float
    accuracy_final: float
    loss: float
    seconds: float
    family: str  # the network's; no column of the table


def statistic(accuracies: Iterable[float]) -> float:
    """The paper's: the mean of the 10 highest test accuracies of the whole run."""
    best = sorted(accuracies)[-BEST_TESTS:]
    return sum(best) / len(best)


@dataclass(frozen=True)
class Log:
    """What a network's log holds."""

    accuracy: dict[int, float]  # of the tests, by iteration, ascending; never empty
    loss: dict[int, float]
    seconds: float  # of training, the time between a kill and the next start left out
    training_loss: dict[int, float] = field(default_factory=dict)  # of the displays, smoothed, by iteration, ascending
    began_s: float = 0.0  # in seconds since 1970; 0: not known
    ended_s: float = 0.0


def read_log(network: Network, out: Path) -> Log:
    """Every test and display of a network, from the JSON lines in its folder.  Raises DataError."""
    # Imported here: it brings PyTorch, which --dry-run and a wrong option need not wait for.
    from caffe_compat.solver.events import StartEvent, TestEvent, TrainEvent, read_events

    file = out / network.name / METRICS
    accuracy: dict[int, float] = {}
    loss: dict[int, float] = {}
    training_loss: dict[int, float] = {}
    seconds = start_s = last_s = began_s = 0.0
    try:
        for event in read_events(file):
            if isinstance(event, StartEvent):  # a process begins: at first, and after a kill
                seconds, start_s = seconds + last_s - start_s, event.time_s
            began_s, last_s = began_s or event.time_s, event.time_s
            if isinstance(event, TestEvent):  # after a kill iterations come again; the later ones count
                accuracy[event.iteration] = event.output("accuracy")
                loss[event.iteration] = event.output("loss")
            elif isinstance(event, TrainEvent):
                training_loss[event.iteration] = event.loss
    except SolverError as error:
        raise DataError(f"{error}; remove the folder {file.parent} to train this network again") from None
    if not accuracy:
        raise DataError(f"{file}: no test in it; remove the folder {file.parent} to train this network again")
    return Log(
        dict(sorted(accuracy.items())),
        loss,
        round(seconds + last_s - start_s, 1),
        dict(sorted(training_loss.items())),
        began_s,
        last_s,
    )


def read_result(network: Network, out: Path) -> Result:
    """The row of a finished network, from the JSON lines in its folder.  Raises DataError."""
    return result_of(network, read_log(network, out))


def result_of(network: Network, log: Log) -> Result:
    """A network's row, from all of its tests; NaN for a last test that shows no loss."""
    final = max(log.accuracy)
    return Result(
        network=network.name,
        split=network.split,
        base=network.base,
        target=network.target,
        n=network.n,
        treatment=network.treatment,
        accuracy=statistic(log.accuracy.values()),
        accuracy_final=log.accuracy[final],
        loss=log.loss.get(final, float("nan")),
        seconds=log.seconds,
        family=network.family,
    )


def results_in(out: Path) -> tuple[list[Result], dict[str, str]]:
    """(rows of all networks that are finished in a folder, in the plan's order, {network: why it cannot be read})."""
    logs, problems = logs_in(out)
    return [result_of(network, log) for network, log in logs], problems


def logs_in(out: Path) -> tuple[list[tuple[Network, Log]], dict[str, str]]:
    """(the networks that are finished in a folder with their logs, in the plan's order, {network: why it has none})."""
    logs, problems = list[tuple[Network, Log]](), dict[str, str]()
    for network in networks_in(out):
        if (out / network.name / DONE).exists():
            try:
                logs.append((network, read_log(network, out)))
            except DataError as error:
                problems[network.name] = str(error)
    return logs, problems


def write_results(results: Sequence[Result], file: Path) -> None:
    """Write ``results.csv``; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        writer.writerow([getattr(result, column) for column in COLUMNS])
    write_text(file, text.getvalue())


def paper_results(file: Path = PAPER_TABLE) -> list[Result]:
    """The authors' own results, read from their logs; without the networks whose log is not published."""
    rows = [row for row in csv.DictReader(io.StringIO(file.read_text())) if row["accuracy_top10_mean"]]
    return [_paper_result(row) for row in rows]


def comparable(rows: Iterable[Result], ours: Iterable[Result]) -> list[Result]:
    """Those results on the same kind of halves as ours, and those on all classes.

    Ours are natural/man-made where they are of nothing else; beside random halves they do not count.
    """
    return of_kind(rows, {result.split for result in ours if result.split} == {NATURAL_SPLIT})


def of_kind(rows: Iterable[Result], natural: bool) -> list[Result]:
    """The results on random halves, or on natural/man-made ones, and those on all classes."""
    return [row for row in rows if not row.split or (row.split == NATURAL_SPLIT) == natural]


def _paper_result(row: dict[str, str]) -> Result:
    treatment = _paper_treatment(row)
    return Result(
        network=row["network"],
        split=row["split"],
        base=row["base"],
        target=row["target"],
        n=int(row["n"]),
        treatment=treatment.in_table,
        accuracy=float(row["accuracy_top10_mean"]),
        accuracy_final=float(row["test_accuracy"]),
        loss=float(row["test_loss"]),
        seconds=0.0,
        family=treatment.family,
    )


def _paper_treatment(row: dict[str, str]) -> Treatment:
    experiment = row["experiment"]
    if experiment == "transfer":
        frozen, tuned = (SELFFER, SELFFER_TUNED) if row["base"] == row["target"] else (CROSS, CROSS_TUNED)
        return tuned if row["treatment"] == "finetuned" else frozen
    others: dict[str, Treatment] = {"base": BASE, "base1000": NETBASE, "random": RANDOM, "reduced": REDUCED}
    return others[experiment]


def note_failure(folder: Path, why: str) -> None:
    """Say in a network's folder why it has no result; where the disk is full, the message alone must do."""
    with suppress(OSError):
        write_text(folder / FAILED, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {why}\n")
