"""Logs of Caffe 1.0, of 2014's Caffe and our own, read into the same events."""

import gzip
import io
from pathlib import Path

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver import Log, Score, read_log, read_logs, score_curve

GOLDEN = Path(__file__).parents[1] / "golden" / "log"

LOG_2014 = """\
I0403 06:46:22.569109 23304 solver.cpp:217] Iteration 20, lr = 0.01
I0403 06:46:22.572109 23304 solver.cpp:65] Iteration 20, loss = 6.66556
I0403 07:46:22.569109 23304 solver.cpp:87] Iteration 1000, Testing net
I0403 07:48:22.569109 23304 solver.cpp:114] Test score #0: 0.0389203
I0403 07:48:22.569110 23304 solver.cpp:114] Test score #1: 5.3778
I0403 07:48:23.569110 23304 solver.cpp:129] Snapshotting to imagenet_iter_1000
"""


def test_caffe_1_0() -> None:
    events = read_log(GOLDEN / "train_and_test" / "log.txt")
    train = [(e.iteration, e.value) for e in events if e.kind == "train"]
    assert train[0] == (0, 1.44485)
    assert train[-1] == (40, 1.02116)
    assert [e.iteration for e in events if e.kind == "lr"] == list(range(0, 40, 5))
    accuracy, loss = score_curve(events, "accuracy"), score_curve(events, "loss")
    assert accuracy == [(0, 0.222222), (10, 0.222222), (20, 0.111111), (30, 0.222222), (40, 0.222222)]
    assert loss[-1] == (40, 1.54692)
    assert next(e.path for e in events if e.kind == "state") == "snap_iter_20.solverstate"
    assert sum(e.kind == "done" for e in events) == 1


def test_resume_of_caffe_1_0() -> None:
    events = read_log(GOLDEN / "resume" / "log.txt")
    assert [e.path for e in events if e.kind == "resume"] == ["snap_iter_20.solverstate"]


def test_log_of_2014(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(LOG_2014.encode()))
    events = read_log(path)
    assert [(e.kind, e.iteration, e.value) for e in events[:3]] == [
        ("lr", 20, 0.01),
        ("train", 20, 6.66556),
        ("test_output", 1000, 0.0389203),
    ]
    assert score_curve(events) == [(1000, 0.0389203)]
    assert score_curve(events, "loss") == [(1000, 5.3778)]
    assert events[-1].path == "imagenet_iter_1000"


def test_our_log_gives_each_event_once(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as stream:
        log = Log(stream, lines_of_2014=True)
        log.train(0, 2.5, [Score("loss", 2.5, 1.0)], iterations_per_s=0.0, wall_s=0.0, display=20)
        log.testing(0, 0)
        log.test(0, 0, 1.5, [Score("accuracy", 0.25), Score("loss", 1.5, 1.0)])
    kinds = [(e.kind, e.name, e.value) for e in read_log(tmp_path / "log")]
    assert kinds == [
        ("train", "", 2.5),
        ("train_output", "loss", 2.5),
        ("test_output", "accuracy", 0.25),
        ("test_output", "loss", 1.5),
        ("test_loss", "", 1.5),
    ]


def read_as_the_papers_authors(text: str) -> dict[str, dict[int, float]]:
    """What a reader that splits lines at blanks sees, as the one of the paper's authors does."""
    seen: dict[str, dict[int, float]] = {"lr": {}, "loss": {}, "score0": {}, "score1": {}}
    iteration, expected = 0, 0
    for line in text.splitlines():
        words = line.split()
        if len(words) < 5:
            continue
        if expected:
            if words[4:6] != ["Test", "score"]:
                expected = 0
                continue
            seen[f"score{words[6][1]}"][iteration] = float(words[7])
            expected -= 1
        elif words[4] == "Iteration":
            number = int(words[5].strip(","))
            if words[6] in ("lr", "loss"):
                seen[words[6]][number] = float(words[8])
            elif words[6:8] == ["Testing", "net"]:
                iteration, expected = number, 2
    return seen


def test_the_papers_reader_understands_our_log() -> None:
    stream = io.StringIO()
    log = Log(stream, lines_of_2014=True)
    log.testing(0, 0)
    log.test(0, 0, 1.5, [Score("accuracy", 0.25), Score("loss", 1.5, 1.0)])
    log.train(0, 2.5, [Score("loss", 2.5, 1.0)], iterations_per_s=0.0, wall_s=0.0, display=20)
    log.learning_rate(0, 0.01)
    log.testing(20, 0)
    log.test(20, 0, None, [Score("accuracy", 0.5), Score("loss", 1.25, 1.0)])
    log.final_loss(20, 2.0)
    seen = read_as_the_papers_authors(stream.getvalue())
    assert seen == {
        "lr": {0: 0.01},
        "loss": {0: 2.5, 20: 2.0},
        "score0": {0: 0.25, 20: 0.5},
        "score1": {0: 1.5, 20: 1.25},
    }
    assert read_as_the_papers_authors(LOG_2014)["score1"] == {1000: 5.3778}


def test_later_time_stamp_wins(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(LOG_2014)
    (tmp_path / "b").write_text(LOG_2014.replace("I0403", "I0402").replace("0.0389203", "0.9"))
    (tmp_path / "c").write_text(LOG_2014.replace("I0403", "I0404").replace("5.3778", "4.0"))
    events = read_logs([tmp_path / "c", tmp_path / "a", tmp_path / "b"])
    assert score_curve(events) == [(1000, 0.0389203)]
    assert score_curve(events, "loss") == [(1000, 4.0)]
    assert [e.iteration for e in events] == sorted(e.iteration for e in events)


def test_unreadable_log(tmp_path: Path) -> None:
    with pytest.raises(SolverError, match="gone: cannot be read: No such file or directory; expected a training log"):
        read_log(tmp_path / "gone")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(LOG_2014.encode())[:-12])
    with pytest.raises(SolverError, match=r"cut.gz: cannot be read as a training log"):
        read_log(tmp_path / "cut.gz")


def test_other_bytes_are_one_line(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(LOG_2014.encode()))
    damaged[12:20] = b"\xff" * 8
    (tmp_path / "flipped.gz").write_bytes(damaged)
    with pytest.raises(SolverError, match=r"flipped.gz: cannot be read as a training log: .*; damaged"):
        read_log(tmp_path / "flipped.gz")
    (tmp_path / "dots").write_text("x\nI0403 10:00:00.000000 1 solver.cpp:1] Iteration 7, lr = 1.2.3\n")
    with pytest.raises(SolverError, match=r"dots: line 2: cannot be read as a training log: could not convert"):
        read_log(tmp_path / "dots")
