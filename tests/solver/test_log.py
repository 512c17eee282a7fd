"""The lines of the log and the structured metrics beside it."""

import io
import math
import re
from pathlib import Path
from typing import Any

import caffe_compat
from caffe_compat.glog import Glog
from caffe_compat.solver.log import Log, Score, format_score
from caffe_compat.solver.metrics import JsonLines

PACKAGE = Path(caffe_compat.__file__).parent
GLOG = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.cpp:\d+\] ")


def test_every_line_has_glogs_prefix() -> None:
    stream = io.StringIO()
    log = Log(stream, lines_of_2014=True)
    log.train(20, 6.66556, [Score("loss", 6.5, 1.0)], iterations_per_s=10.0, wall_s=2.0, display=20)
    log.learning_rate(20, 0.01)
    log.testing(1000, 0)
    log.test(1000, 0, 5.0, [Score("accuracy", 0.25), Score("loss", 5.3778, 0.5)])
    log.snapshot("HDF5", "a.h5")
    log.snapshot_state("HDF5", "b.h5")
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


def test_all_wordings_are_in_the_logs() -> None:
    writers = {path for path in PACKAGE.rglob("*.py") if re.search(r"\.line\(|\w\.cpp:\d", path.read_text())}
    logs = {PACKAGE / "solver" / "log.py", PACKAGE / "tools" / "_log.py", PACKAGE / "pycaffe" / "glog.py"}
    assert writers - {PACKAGE / "glog.py"} == logs


def said(log_class: type[Glog], *calls: tuple[Any, ...]) -> list[str]:
    """What methods with their arguments write, each line as severity, place and message."""
    stream = io.StringIO()
    log = log_class(stream)
    for name, *arguments in calls:
        getattr(log, name)(*arguments)
    return [re.sub(r"^(\w)\d{4} [\d:.]+ +\d+ ", r"\1 ", line) for line in stream.getvalue().splitlines()]


def test_lines_of_a_solver() -> None:
    calls = (
        ("initializing", "a: 1\nb: 2\n"),
        ("train_net_from_field", "net_param"),
        ("train_net_from_file", "net", "n.prototxt"),
        ("test_net", 1, "net file: n.prototxt"),
        ("finetuning", "w.caffemodel"),
        ("ignoring_source_layer", "fc8"),
        ("weights_differ", "w.caffemodel", "nothing new"),
        ("repeated_name", "n.prototxt", "c"),
        ("not_shared", 1, ["ip", "ip2"]),
        ("scaffolding_done",),
        ("solving", "LeNet", "inv"),
        ("restoring", Path("a.solverstate")),
        ("restoring_history",),
        ("multistep_status", 7, 2),
        ("clipping", 2.0, 0.5, 0.25),
        ("stopped_early",),
        ("test_interrupted",),
        ("done", 9),
    )
    assert said(Log, *calls) == [
        "I solver.cpp:45] Initializing solver from parameters: ",
        "a: 1",
        "b: 2",
        "I solver.cpp:88] Creating training net specified in net_param.",
        "I solver.cpp:102] Creating training net from net file: n.prototxt",
        "I solver.cpp:190] Creating test net (#1) specified by net file: n.prototxt",
        "I solver.cpp:72] Finetuning from w.caffemodel",
        "I net.cpp:746] Ignoring source layer fc8",
        "W weights.py:1] w.caffemodel: nothing new",
        'W weights.py:1] n.prototxt: several layers, some with parameters, have the name "c", so that a snapshot '
        "cannot be restored; give each a name of its own",
        'W nets.py:1] test net #1: the train net has no layers "ip", "ip2", whose parameters stay as they are; give '
        "them the train net's names",
        "I solver.cpp:57] Solver scaffolding done.",
        "I solver.cpp:289] Solving LeNet",
        "I solver.cpp:290] Learning Rate Policy: inv",
        "I solver.cpp:296] Restoring previous solver status from a.solverstate",
        "I sgd_solver.cpp:318] SGDSolver: restoring history",
        "I sgd_solver.cpp:57] MultiStep Status: Iteration 7, step = 2",
        "I sgd_solver.cpp:97] Gradient clipping: scaling down gradients (L2 norm 2 > 0.5) by scale factor 0.25",
        "I solver.cpp:316] Optimization stopped early.",
        "I solver.cpp:396] Test interrupted.",
        "I solver.cpp:332] Optimization Done.",
    ]


def test_lines_of_debug_info() -> None:
    calls = (
        ("forward_top", "conv1", "conv1", 0.5),
        ("forward_param", "conv1", "0", 0.25),
        ("backward_bottom", "ip", "pool", 1e-7),
        ("backward_param", "ip", 1, 2.0),
        ("norms", (1.0, 2.0), (3.0, 4.0)),
    )
    assert said(Log, *calls) == [
        "I net.cpp:608]     [Forward] Layer conv1, top blob conv1 data: 0.5",
        "I net.cpp:608]     [Forward] Layer conv1, param blob 0 data: 0.25",
        "I net.cpp:636]     [Backward] Layer ip, bottom blob pool diff: 1e-07",
        "I net.cpp:636]     [Backward] Layer ip, param blob 1 diff: 2",
        "E net.cpp:593]     [Backward] All net params (data, diff): L1 norm = (1, 2); L2 norm = (3, 4)",
    ]


def test_numbers_have_six_digits_as_in_a_c_stream() -> None:
    assert format_score(Score("x", 0.123456789)) == "x = 0.123457"
    assert format_score(Score("x", 1e-7)) == "x = 1e-07"
    assert format_score(Score("x", 123456789.0)) == "x = 1.23457e+08"


def test_a_second_test_net_has_no_score_of_2014() -> None:
    stream = io.StringIO()
    Log(stream, lines_of_2014=True).test(0, 1, None, [Score("accuracy", 0.5)])
    assert "Test score" not in stream.getvalue()


def test_the_lines_of_2014_are_left_out_unless_asked_for() -> None:
    stream = io.StringIO()
    log = Log(stream)
    log.train(20, 6.5, [], iterations_per_s=10.0, wall_s=2.0, display=20)
    log.test(20, 0, None, [Score("accuracy", 0.5)])
    assert [GLOG.sub("", line) for line in stream.getvalue().splitlines()] == [
        "Iteration 20 (10 iter/s, 2s/20 iters), loss = 6.5",
        "    Test net output #0: accuracy = 0.5",
    ]


def test_disabled_log_says_nothing(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = Log(stream, [JsonLines(tmp_path / "log.jsonl")], enabled=False)
    log.final_loss(1, 2.0)
    log.close()
    assert stream.getvalue() == ""
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_a_name_cannot_add_a_line() -> None:
    stream = io.StringIO()
    name = "a\nI1126 00:00:00.000000     1 solver.cpp:332] Optimization Done.\x1b[2J\u2028"
    Log(stream, lines_of_2014=True).test(1, 0, None, [Score(name, 1.0)])
    Log(stream).initializing('net: "a"\nbase_lr: 0.1\n')
    lines = stream.getvalue().split("\n")
    escaped = r"a\nI1126 00:00:00.000000     1 solver.cpp:332] Optimization Done.\x1b[2J\u2028"
    assert [GLOG.sub("", line) for line in lines] == [
        "Test score #0: 1",
        f"    Test net output #0: {escaped} = 1",
        "Initializing solver from parameters: ",
        'net: "a"',
        "base_lr: 0.1",
        "",
    ]
