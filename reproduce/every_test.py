"""Every test of every network as a tidy table: one row a test, as the logs have them."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from caffe_compat.atomic_file import write_text
from reproduce.network import Network
from reproduce.results import Log
from reproduce.settings import SETTINGS, read_noted

TESTS = "tests.csv"
COLUMNS = (
    *("network", "split", "base", "target", "n", "treatment"),
    *("seed", "iteration", "accuracy", "loss"),
)


def write_tests(logs: Iterable[tuple[Network, Log]], out: Path) -> None:
    """Write ``tests.csv`` of these networks of a run into its folder; whole or not at all.

    ``accuracy`` from 0 to 1 and ``loss`` have the digits of the log.
    """
    seed = run_seed(out)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for network, log in logs:
        of = (network.name, *(getattr(network, column) for column in COLUMNS[1:6]), seed_of(network, seed))
        writer.writerows((*of, iteration, log.accuracy[iteration], log.loss[iteration]) for iteration in log.accuracy)
    write_text(out / TESTS, text.getvalue())


def run_seed(out: Path) -> str:
    """The ``--seed`` that a run's folder was begun with; "" where that is not noted."""
    file = out / SETTINGS
    return str(read_noted(file).get("seed", "")) if file.exists() else ""


def seed_of(network: Network, run_seed: str) -> str:
    """The seed of one network of a run: its own, else the run's."""
    return run_seed if network.seed is None else str(network.seed)
