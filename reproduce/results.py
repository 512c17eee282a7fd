"""From the networks' logs to one table."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError
from reproduce.plan import Network

COLUMNS = (
    *("network", "split", "base", "target", "n"),
    *("treatment", "accuracy", "accuracy_final", "loss", "seconds"),
)
METRICS = "train.jsonl"
BEST_TESTS = 10
PAPER_TABLE = Path(__file__).parent / "paper_results.csv"


@dataclass(frozen=True)
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

    @property
    def family(self) -> str:
        """``base`` for halves, ``netbase``, ``reduced``, ``transfer`` or ``random``."""
        if self.treatment == "random":
            return "random"
        if self.treatment == "base":
            return {"net": "netbase", "red": "reduced"}.get(self.network[:3], "base")
        return "transfer"


def statistic(accuracies: Iterable[float]) -> float:
    """The paper's: the mean of the 10 highest test accuracies of the whole run."""
    best = sorted(accuracies)[-BEST_TESTS:]
    return sum(best) / len(best)


def read_result(network: Network, out: Path) -> Result:
    """The row of a finished network, from the JSON lines in its folder.  Raises DataError."""
    file = out / network.name / METRICS
    accuracy: dict[int, float] = {}
    loss: dict[int, float] = {}
    seconds = start = last = 0.0
    for event in _events(file):
        if event["event"] == "start":  # a process begins: at first, and after a kill
            seconds, start = seconds + last - start, event["time"]
        last = event["time"]
        if event["event"] == "test":  # after a kill iterations come again; the later ones count
            accuracy[event["iteration"]] = float(event["outputs"]["accuracy"])
            loss[event["iteration"]] = float(event["outputs"]["loss"])
    if not accuracy:
        raise DataError(f"{file}: no test in it; remove the folder {file.parent} to train this network again")
    final = max(accuracy)
    return Result(
        network=network.name,
        split=network.split,
        base=network.base,
        target=network.target,
        n=network.n,
        treatment=network.treatment,
        accuracy=statistic(accuracy.values()),
        accuracy_final=accuracy[final],
        loss=loss[final],
        seconds=round(seconds + last - start, 1),
    )


def _events(file: Path) -> Iterable[dict]:
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; train the network again") from None
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cuts a line short; the resumed process writes it again
        if isinstance(event, dict) and "event" in event:
            yield event


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
    with open(file, newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["accuracy_top10_mean"]]
    return [
        Result(
            network=row["network"],
            split=row["split"],
            base=row["base"],
            target=row["target"],
            n=int(row["n"]),
            treatment=_paper_treatment(row),
            accuracy=float(row["accuracy_top10_mean"]),
            accuracy_final=float(row["test_accuracy"]),
            loss=float(row["test_loss"]),
            seconds=0.0,
        )
        for row in rows
    ]


def _paper_treatment(row: dict[str, str]) -> str:
    if row["experiment"] == "random":
        return "random"
    if row["experiment"] != "transfer":
        return "base"
    return ("BnB" if row["base"] == row["target"] else "AnB") + ("+" if row["treatment"] == "finetuned" else "")
