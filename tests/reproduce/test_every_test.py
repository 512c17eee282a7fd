"""One row a test, equal to the logs."""

import csv
import json
from pathlib import Path

import pytest

from reproduce.every_test import COLUMNS, write_tests
from reproduce.results import BEST_TESTS, read_log, read_result
from reproduce.treatments import base_half, transfer


def write_log(folder: Path, tests: list[tuple[int, float, float]]) -> None:
    """A network's log with tests of these iterations, accuracies and losses."""
    folder.mkdir()
    events: list[dict[str, object]] = [{"event": "start", "iteration": 0, "time": 1.0}]
    events += [
        {
            **{"event": "test", "iteration": iteration, "time": 2.0 + i, "net": 0, "loss": None},
            "outputs": {"accuracy": accuracy, "loss": loss},
        }
        for i, (iteration, accuracy, loss) in enumerate(tests)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_one_row_a_test_with_the_log_s_digits(tmp_path: Path) -> None:
    base, other = base_half("0", "A"), transfer("0", "A", "B", 4).with_seed(2)
    (tmp_path / "settings.json").write_text('{"seed": "7"}')
    # 0.1 + 0.2 and 1/3 have all digits; iteration 20 comes twice, as after a kill, and the later one counts
    write_log(tmp_path / base.name, [(0, 0.1 + 0.2, 1 / 3), (20, 0.25, 9.0), (20, 0.5, 2e-9), (40, 0.75, 1.0)])
    write_log(tmp_path / other.name, [(0, 0.0, 3.5)])
    write_tests([(network, read_log(network, tmp_path)) for network in (base, other)], tmp_path)
    rows = list(csv.DictReader((tmp_path / "tests.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert ",".join(COLUMNS) == "network,split,base,target,n,treatment,seed,iteration,accuracy,loss"
    numbers = [(row["network"], int(row["iteration"]), float(row["accuracy"]), float(row["loss"])) for row in rows]
    assert numbers == [
        ("half0A", 0, 0.1 + 0.2, 1 / 3),
        ("half0A", 20, 0.5, 2e-9),
        ("half0A", 40, 0.75, 1.0),
        ("transfer0A0B_1_4-seed2", 0, 0.0, 3.5),
    ]
    own = [row["seed"] for row in rows]
    assert own == ["7", "7", "7", "2"]
    assert [rows[-1][column] for column in COLUMNS[1:6]] == ["0", "A", "B", "4", "AnB"]


def test_the_rows_make_the_results_of_results_csv(tmp_path: Path) -> None:
    network = base_half("0", "A")
    write_log(tmp_path / network.name, [(i, (i * 7 % 13) / 13, 1 / (i + 1)) for i in range(13)])
    write_tests([(network, read_log(network, tmp_path))], tmp_path)
    rows = list(csv.DictReader((tmp_path / "tests.csv").open()))
    assert rows[0]["seed"] == ""  # a folder that does not say
    best = sorted((float(row["accuracy"]) for row in rows), reverse=True)[:BEST_TESTS]
    result = read_result(network, tmp_path)
    assert sum(best) / BEST_TESTS == pytest.approx(result.accuracy, abs=1e-15)
    assert (float(rows[-1]["accuracy"]), float(rows[-1]["loss"])) == (result.accuracy_final, result.loss)
