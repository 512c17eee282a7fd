"""Sinks: the files that the log's events go to."""

import io
import json
import math
import sys
from pathlib import Path

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import events
from caffe_compat.solver.log import Log, Score
from caffe_compat.solver.metrics import Csv, JsonLines, TensorBoard


def test_json_lines(tmp_path: Path) -> None:
    log = Log(io.StringIO(), [JsonLines(tmp_path / "log.jsonl")])
    log.test(8, 0, None, [Score("accuracy", 0.5), Score("v", 1.0), Score("v", math.inf)])
    log.final_loss(9, math.nan)
    log.close()
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first.pop("time") > 1e9
    assert first == {
        "event": "test",
        "iteration": 8,
        "net": 0,
        "loss": None,
        "outputs": {"accuracy": 0.5, "v": [1.0, "inf"]},
    }
    assert second["loss"] == "nan"


def test_csv_is_appended_with_one_header(tmp_path: Path) -> None:
    for iteration in (1, 2):
        log = Log(io.StringIO(), [Csv(tmp_path / "log.csv")])
        log.test(iteration, 1, None, [Score("v", 1.0), Score("v", 0.1)])
        log.close()
    rows = [line.split(",")[1:] for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows[0] == ["iteration", "event", "name", "value"]
    assert rows[1:] == [[i, "test", f"net1.v[{k}]", v] for i in "12" for k, v in ((0, "1"), (1, "0.1"))]


def test_tensorboard_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sink = TensorBoard(tmp_path / "board")
    sink.write(events.FinalEvent(3, 1.0, 0.5))
    sink.close()
    assert list((tmp_path / "board").iterdir())


def test_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SolverError, match="pip install tensorboard"):
        TensorBoard(tmp_path / "board")


def test_a_csv_has_a_row_for_every_number(tmp_path: Path) -> None:
    sink = Csv(tmp_path / "log.csv")
    sink.write(events.TrainEvent(20, 1.5, 0.123456789123, 10.0, {"loss": 2.0, "v": [1.0, 3.0]}))
    sink.write(events.SnapshotEvent(20, 1.5, "a", "b"))
    sink.close()
    assert (tmp_path / "log.csv").read_text().split() == [
        "time,iteration,event,name,value",
        *("1.5,20,train,loss,0.123456789", "1.5,20,train,iterations_per_s,10"),
        *("1.5,20,train,loss,2", "1.5,20,train,v[0],1", "1.5,20,train,v[1],3"),
    ]


@pytest.mark.parametrize("sink", [JsonLines, Csv])
def test_a_full_disk_is_named(sink: type[JsonLines] | type[Csv]) -> None:
    # Either the header or the first event is too much.
    with pytest.raises(SolverError, match="/dev/full: cannot be written: No space left on device"):
        Log(io.StringIO(), [sink("/dev/full")]).final_loss(9, 1.0)


@pytest.mark.parametrize("sink", [JsonLines, Csv])
def test_a_missing_folder_is_named(sink: type[JsonLines] | type[Csv], tmp_path: Path) -> None:
    with pytest.raises(SolverError, match=r"none/log: cannot be written: No such file.*: the folder .*none is missing"):
        sink(tmp_path / "none" / "log")
