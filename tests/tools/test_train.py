"""``caffe train`` and ``caffe test``: the events of Caffe's logs, flags, signals."""

import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.cli import main
from caffe_compat.errors import SolverError
from caffe_compat.file_lock import FileLock
from caffe_compat.proto import read_caffemodel
from caffe_compat.solver import Log

GOLDEN = Path(__file__).parents[1] / "golden" / "log"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/case.json"))

RELATIVE, ABSOLUTE = 1e-3, 1e-5  # float32 sums in another order, printed with six digits

NUMBER = r"(-?[0-9.]+(?:e[-+]?[0-9]+)?|-?nan|-?inf)"
#: the first that fits names the event; the same as were used to make expected.json
EVENTS = [
    ("train", rf"Iteration (\d+) \(.*\), loss = {NUMBER}"),
    ("lr", rf"Iteration (\d+), lr = {NUMBER}"),
    ("final", rf"Iteration (\d+), loss = {NUMBER}"),
    ("testing", r"Iteration (\d+), Testing net \(#(\d+)\)"),
    ("train_output", rf"Train net output #(\d+): (\S+) = {NUMBER}"),
    ("test_output", rf"Test net output #(\d+): (\S+) = {NUMBER}"),
    ("snapshot", r"Snapshotting to (\w+ ?\w*) file (\S+)"),
    ("state", r"Snapshotting solver state to (\w+ ?\w*) file (\S+)"),
    ("resume", r"Resuming from (\S+)"),
    ("done", r"Optimization Done"),
    ("batch", rf"Batch (\d+), (\S+) = {NUMBER}"),
    ("score", rf"caffe\.cpp:\d+\] (accuracy|loss) = {NUMBER}"),
]


def events(text: str) -> list[list[str]]:
    found = []
    for line in text.splitlines():
        for kind, pattern in EVENTS:
            if match := re.search(pattern, line):
                found.append([kind, *match.groups()])
                break
    return found


def assert_same_events(ours: list[list[str]], theirs: list[list[str]]) -> None:
    for a, b in itertools.zip_longest(ours, theirs):
        assert a is not None
        assert b is not None
        assert a[0] == b[0]
        for x, y in zip(a[1:], b[1:], strict=True):
            if re.fullmatch(NUMBER, y):
                assert float(x) == pytest.approx(float(y), rel=RELATIVE, abs=ABSOLUTE), (a, b)
            else:
                assert x == y, (a, b)


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    with random.scope():
        yield


def enter(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN / case, folder / case)
    monkeypatch.chdir(folder / case)


@pytest.mark.parametrize("case", CASES)
def test_events_are_caffes(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(case, tmp_path, monkeypatch)
    for command in json.loads(Path("case.json").read_text())["commands"]:
        assert main(command) == 0
    assert_same_events(events(capsys.readouterr().err), json.loads(Path("expected.json").read_text()))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter("train_and_test", tmp_path, monkeypatch)


def test_iterations_and_metrics(job: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-solver=solver.prototxt", "-iterations=6", "--log_json=m.jsonl", "--log_csv=m.csv"]) == 0
    assert Path("snap_iter_6.caffemodel").exists()
    kinds = [json.loads(line)["event"] for line in Path("m.jsonl").read_text().splitlines()]
    assert kinds == ["test", "train", "lr", "train", "lr", "snapshot", "done"]
    assert Path("m.csv").read_text().startswith("time,iteration,event,name,value\n")


def test_negative_iterations(job: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver=solver.prototxt", "--iterations=-1"]) == 1
    assert "--iterations is -1; expected at least 0" in capsys.readouterr().err


def test_weights_flag_replaces_the_files_weights(job: None) -> None:
    text = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(text + ' weights: "gone.caffemodel"')
    words = ["train", "--solver=solver.prototxt", "--iterations=0"]
    assert main([*words, "--weights=init.caffemodel"]) == 0
    assert main(words) == 1


def test_stage_and_phase(job: None, capsys: pytest.CaptureFixture[str]) -> None:
    net = Path("net.prototxt").read_text()
    extra = 'layer { name: "extra" type: "Power" bottom: "fc8" top: "extra" include { stage: "deep" min_level: 2 } }'
    Path("net.prototxt").write_text(net + extra)
    words = ["train", "--solver=solver.prototxt", "--iterations=1"]
    for flags, there in (([], False), (["--stage=deep,wide"], False), (["--stage=deep", "--level=2"], True)):
        capsys.readouterr()
        assert main([*words, *flags]) == 0
        assert ("Train net output #0: extra" in capsys.readouterr().err) is there
    assert main([*words, "--phase=TEST"]) == 0
    assert "Train net output #0: accuracy" in capsys.readouterr().err


def test_snapshot_auto(job: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--solver=solver.prototxt", "--snapshot=auto"]
    assert main(words) == 0
    assert "No whole snapshot snap_iter_*" in capsys.readouterr().err
    finished = Path("snap_iter_40.caffemodel").read_bytes()
    Path("snap_iter_40.solverstate").unlink()
    assert main(words) == 0
    assert "Resuming from snap_iter_20.solverstate" in capsys.readouterr().err
    assert Path("snap_iter_40.caffemodel").read_bytes() == finished


def test_snapshot_of_another_net(job: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver=solver.prototxt"]) == 0
    Path("net.prototxt").write_text(Path("net.prototxt").read_text().replace("num_output: 6", "num_output: 9"))
    capsys.readouterr()
    assert main(["train", "--solver=solver.prototxt", "--snapshot=snap_iter_20.solverstate"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("caffe-compat train: snap_iter_20.solverstate: history 0 has shape (6, 1, 5, 5), param 0")


@pytest.mark.parametrize(
    ("number", "flags", "stops"),
    [
        (signal.SIGINT, [], True),
        (signal.SIGHUP, [], False),
        (signal.SIGINT, ["--sigint_effect=snapshot"], False),
        (signal.SIGHUP, ["--sighup_effect=stop"], True),
        (signal.SIGHUP, ["--sighup_effect=none"], None),
        (signal.SIGTERM, ["--sigterm_effect=stop"], True),
        (signal.SIGTERM, ["--sigterm_effect=snapshot"], False),
        (signal.SIGTERM, ["--sigterm_effect=none"], None),
    ],
)
def test_signals(
    *,
    number: signal.Signals,
    flags: list[str],
    stops: bool | None,
    job: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = Path("solver.prototxt").read_text()
    text = text.replace("max_iter: 40", "max_iter: 200").replace("snapshot: 20", "snapshot: 1000")
    Path("solver.prototxt").write_text(text)

    log_rate = Log.learning_rate

    def send(log: Log, iteration: int, rate: float) -> None:
        log_rate(log, iteration, rate)
        if iteration == 10:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Log, "learning_rate", send)
    before = signal.getsignal(number)
    assert main(["train", "--solver=solver.prototxt", *flags]) == 0
    assert signal.getsignal(number) is before
    states = sorted(int(path.stem.split("_")[-1]) for path in Path().glob("*.solverstate"))
    stopped = "Optimization stopped early." in capsys.readouterr().err
    assert stopped is bool(stops)
    assert len(states) == (2 if stops is False else 1)
    assert states[0] == (200 if stops is None else 11)
    assert states[-1] == (11 if stops else 200)


def test_gpu_without_a_device(job: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for flag, message in (
        ("all", "--gpu all: PyTorch finds no CUDA device"),
        ("0", "no CUDA device 0"),
        ("x", "--gpu is"),
    ):
        assert main(["train", "--solver=solver.prototxt", f"--gpu={flag}"]) == 1
        assert message in capsys.readouterr().err


def test_fine_tuning_starts_from_the_weights(job: None) -> None:
    assert main(["train", "--solver=solver.prototxt", "--iterations=0", "--weights=init.caffemodel"]) == 0
    assert not Path("snap_iter_0.caffemodel").exists()  # 0 is a multiple of the snapshot interval, as in Caffe
    Path("solver.prototxt").write_text(Path("solver.prototxt").read_text().replace("snapshot: 20", ""))
    assert main(["train", "--solver=solver.prototxt", "--iterations=0", "--weights=init.caffemodel"]) == 0
    ours = {layer.name: layer.blobs for layer in read_caffemodel("snap_iter_0.caffemodel")}
    for layer in read_caffemodel("init.caffemodel"):
        for a, b in zip(ours.get(layer.name, []), layer.blobs, strict=False):
            np.testing.assert_array_equal(a, b)


def test_two_never_train_with_one_prefix(job: None, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock("snap.lock", SolverError("")):
        assert main(["train", "--solver=solver.prototxt"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        'caffe-compat train: solver.prototxt: another process trains with snapshot_prefix "snap"; wait for it or '
        "stop it, or set another snapshot_prefix"
    )
    assert not list(Path().glob("snap*"))
    Path("snap.lock").touch()  # as a killed process leaves it
    assert main(["train", "--solver=solver.prototxt", "--iterations=20"]) == 0
    assert not Path("snap.lock").exists()
