"""The lines of the log and the structured metrics beside it."""

import io
import json
import math
import re
import sys

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import events
from caffe_compat.solver.log import Log, Score, format_score
from caffe_compat.solver.metrics import Csv, JsonLines, TensorBoard

GLOG = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.cpp:\d+\] ")


def test_every_line_has_glogs_prefix():
    stream = io.StringIO()
    log = Log(stream)
    log.train(20, 6.66556, [Score("loss", 6.5, 1.0)], 10.0, 2.0, 20)
    log.learning_rate(20, 0.01)
    log.testing(1000, 0)
    log.test(1000, 0, 5.0, [Score("accuracy", 0.25), Score("loss", 5.3778, 0.5)])
    log.snapshot(5, "HDF5", "a.h5")
    log.snapshot_state(5, "HDF5", "b.h5")
    log.final_loss(30, math.nan)
    lines = stream.getvalue().splitlines()
    assert all(GLOG.match(line) for line in lines)
    assert [GLOG.sub("", line) for line in lines] == [
        "Iteration 20 (10 iter/s, 2s/20 iters), loss = 6.66556",
        "Iteration 20,  loss = 6.66556",
        "    Train net output #0: loss = 6.5 (* 1 = 6.5 loss)",
        "Iteration 20, lr = 0.01",
        "Iteration 1000, Testing net (#0)",
        "Test score #0: 0.25",
        "Test score #1: 5.3778",
        "Test loss: 5",
        "    Test net output #0: accuracy = 0.25",
        "    Test net output #1: loss = 5.3778 (* 0.5 = 2.6889 loss)",
        "Snapshotting to HDF5 file a.h5",
        "Snapshotting solver state to HDF5 file b.h5",
        "Iteration 30, loss = nan",
    ]


def test_numbers_have_six_digits_as_in_a_c_stream():
    assert format_score(Score("x", 0.123456789)) == "x = 0.123457"
    assert format_score(Score("x", 1e-7)) == "x = 1e-07"
    assert format_score(Score("x", 123456789.0)) == "x = 1.23457e+08"


def test_a_second_test_net_has_no_score_of_2014():
    stream = io.StringIO()
    Log(stream).test(0, 1, None, [Score("accuracy", 0.5)])
    assert "Test score" not in stream.getvalue()


def test_disabled_log_says_nothing(tmp_path):
    stream = io.StringIO()
    log = Log(stream, [JsonLines(tmp_path / "log.jsonl")], enabled=False)
    log.final_loss(1, 2.0)
    log.close()
    assert stream.getvalue() == ""
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_json_lines(tmp_path):
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


def test_csv_is_appended_with_one_header(tmp_path):
    for iteration in (1, 2):
        log = Log(io.StringIO(), [Csv(tmp_path / "log.csv")])
        log.test(iteration, 1, None, [Score("v", 1.0), Score("v", 0.1)])
        log.close()
    rows = [line.split(",")[1:] for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows[0] == ["iteration", "event", "name", "value"]
    assert rows[1:] == [[i, "test", f"net1.v[{k}]", v] for i in "12" for k, v in ((0, "1"), (1, "0.1"))]


def test_tensorboard_is_written(tmp_path):
    pytest.importorskip("tensorboard")
    sink = TensorBoard(tmp_path / "board")
    sink.write(events.FinalEvent(3, 1.0, 0.5))
    sink.close()
    assert list((tmp_path / "board").iterdir())


def test_missing_tensorboard_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SolverError, match="pip install tensorboard"):
        TensorBoard(tmp_path / "board")
