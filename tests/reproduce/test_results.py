"""From logs to the table."""

import csv
import json
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.folder_networks import write_network
from reproduce.results import (
    COLUMNS,
    comparable,
    paper_results,
    read_result,
    results_in,
    statistic,
    write_results,
)
from reproduce.treatments import RANDOM, base_half, transfer

NETWORK = transfer("0", "A", "B", 4)


def write_events(out: Path, events: list[dict[str, object]], end: str = "") -> None:
    folder = out / NETWORK.name
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + end)


def scored(iteration: int, accuracy: float, time: float) -> dict[str, object]:
    outputs = {"accuracy": accuracy, "loss": 1 - accuracy}
    return {"event": "test", "iteration": iteration, "time": time, "net": 0, "loss": None, "outputs": outputs}


def test_statistic_is_the_mean_of_the_ten_highest() -> None:
    assert statistic([i / 100 for i in range(20)]) == pytest.approx(sum(range(10, 20)) / 1000)
    assert statistic([0.25, 0.75]) == 0.5


def test_a_restarted_run_is_one_run(tmp_path: Path) -> None:
    events = [
        {"event": "start", "iteration": 0, "time": 100.0},
        scored(0, 0.1, 101),
        scored(5, 0.9, 110),  # after the last snapshot; comes again
        {"event": "start", "iteration": 0, "time": 1000.0},
        scored(5, 0.4, 1004),
        scored(10, 0.3, 1009),
    ]
    write_events(tmp_path, events, '{"event": "te')
    result = read_result(NETWORK, tmp_path)
    assert result.accuracy == pytest.approx((0.1 + 0.4 + 0.3) / 3)
    assert (result.accuracy_final, result.loss, result.seconds) == (0.3, 0.7, 10 + 9)


def test_a_network_without_tests_is_an_error(tmp_path: Path) -> None:
    write_events(tmp_path, [{"event": "start", "iteration": 0, "time": 1.0}])
    with pytest.raises(DataError, match="no test in it; remove the folder"):
        read_result(NETWORK, tmp_path)


def test_the_table_has_the_promised_columns(tmp_path: Path) -> None:
    write_events(tmp_path, [scored(0, 0.5, 1.0)])
    write_results([read_result(NETWORK, tmp_path)], tmp_path / "results.csv")
    (row,) = csv.DictReader((tmp_path / "results.csv").open())
    assert tuple(row) == COLUMNS
    promised = "network,split,base,target,n,treatment,accuracy,accuracy_final,loss,seconds"
    assert ",".join(COLUMNS) == promised
    assert (row["network"], row["base"], row["target"], row["treatment"]) == ("transfer0A0B_1_4", "A", "B", "AnB")


def test_the_authors_table_gives_the_papers_error() -> None:
    rows = paper_results()
    halves = [row.accuracy for row in rows if row.family == "base" and row.split != "natman"]
    assert len(halves) == 8
    assert 1 - sum(halves) / 8 == pytest.approx(0.3749, abs=5e-5)
    (whole,) = [row for row in rows if row.family == "netbase"]
    assert 1 - whole.accuracy == pytest.approx(0.4237, abs=5e-5)


def test_a_test_without_accuracy_names_the_file(tmp_path: Path) -> None:
    outputs = {"loss": 1.0}
    write_events(tmp_path, [{"event": "test", "iteration": 3, "time": 1.0, "net": 0, "loss": None, "outputs": outputs}])
    with pytest.raises(DataError, match=r"iteration 3: no output accuracy.*remove the folder .*transfer0A0B_1_4"):
        read_result(NETWORK, tmp_path)


def test_a_network_that_was_not_trained_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: cannot read the events: No such file"):
        read_result(NETWORK, tmp_path)


def test_results_are_compared_with_the_same_kind_of_halves() -> None:
    paper = paper_results()
    for split, there in (("2", {"", "0", "1", "2", "3"}), ("natman", {"", "natman"})):
        ours = [row for row in paper if row.split == split]
        assert {row.split for row in comparable(paper, ours)} == there
    assert {row.split for row in comparable(paper, paper)} == {"", "0", "1", "2", "3"}


def test_the_table_of_a_folder_has_what_is_finished_of_every_split(tmp_path: Path) -> None:
    networks = [base_half("1", "A"), transfer("0", "A", "B", 4), base_half("0", "A"), RANDOM.network(2)]
    for number, network in enumerate(networks):
        (tmp_path / network.name).mkdir()
        write_network(network, tmp_path / network.name)
        (tmp_path / network.name / "solver.prototxt").touch()
        (tmp_path / network.name / "train.jsonl").write_text(json.dumps(scored(0, number / 4, 1.0)) + "\n")
    for network in networks[:3]:
        (tmp_path / network.name / "done").touch()
    results, problems = results_in(tmp_path)
    table = [(result.network, result.accuracy) for result in results]
    assert table == [("half0A", 0.5), ("transfer0A0B_1_4", 0.25), ("half1A", 0.0)]
    assert problems == {}
    (tmp_path / "half0A" / "train.jsonl").write_text("")
    results, problems = results_in(tmp_path)
    assert [result.network for result in results] == ["transfer0A0B_1_4", "half1A"]
    assert list(problems) == ["half0A"]
    assert "no test in it; remove the folder" in problems["half0A"]
