"""The main job in a reduced form: whole, killed and continued, and refused."""

import csv
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from reproduce import experiment
from reproduce.measure import Timing
from reproduce.run_paper import main

ROOT = Path(__file__).parent.parent.parent
CLASSES, TRAIN, VALID = 6, 8, 4
#: the nets of the miniature, but for 40 iterations
ARGUMENTS = ["--iters", "40", "--layers", "3", "--jobs", "2"]
TIMEOUT_S = 400


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few class folders of 32x32 images that differ by colour."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", VALID)):
        for c in range(CLASSES):
            folder = root / part / f"class{c}"
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.normal(128, 40, (32, 32, 3))
                image[..., c % 3] += 60 if c < 3 else -60
                cv2.imwrite(str(folder / f"{i}.png"), np.clip(image, 0, 255).astype(np.uint8))
    return root


def start(images: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(ROOT / "reproduce" / "run_paper.py"),
        "--data",
        f"folder:{images}",
        "--out",
        str(out),
    ]
    return subprocess.Popen(
        [*command, *ARGUMENTS, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out.parent
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    return output


def table(out: Path) -> list[dict[str, str]]:
    """results.csv without what may differ between two runs."""
    rows = list(csv.DictReader((out / "results.csv").open()))
    for row in rows:
        del row["seconds"]
    return rows


@pytest.fixture(scope="module")
def whole_run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, finish(start(images, out))


@pytest.mark.slow
def test_the_main_job_from_images_to_figures(whole_run: tuple[Path, str]) -> None:
    out, said = whole_run
    rows = table(out)
    treatments = [row["treatment"] for row in rows]
    assert sorted(treatments) == sorted(["base", "BnB", "AnB", "BnB+", "AnB+"] * 2 + ["random"])
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    for name in ("fig2_points", "fig2_lines", "fig3"):
        assert (out / "figures" / f"{name}.svg").stat().st_size > 1000
    assert (out / "report.html").read_text().count("<svg") == 3 + len(rows)  # the figures, and a curve of each network
    folder = out / "transfer0A0B_1_3"
    files = ("train.prototxt", "val.prototxt", "solver.prototxt", "train.log", "caffe_train_iter_40.caffemodel")
    assert all((folder / name).is_file() for name in files)
    assert "11/11" in said
    assert "\x1b" not in said  # no terminal: plain lines


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_table(
    images: Path, whole_run: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for stage in ("half0A/caffe_train_iter_7.solverstate", "transfer0A0B_1_3/caffe_train_iter_7.solverstate"):
        process = start(images, out)
        deadline = time.monotonic() + TIMEOUT_S
        while not (out / stage).exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (out / "results.csv").exists()
    finish(start(images, out))
    assert table(out) == table(whole_run[0])
    ours, theirs = (
        (folder / "transfer0A0B_1_3" / "caffe_train_iter_40.caffemodel").read_bytes() for folder in (out, whole_run[0])
    )
    assert ours == theirs


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(images: Path, whole_run: tuple[Path, str]) -> None:
    out, _ = whole_run
    before = table(out)
    model = out / "half0A" / "caffe_train_iter_40.caffemodel"
    written = model.stat().st_mtime_ns
    assert "11 of them done" in finish(start(images, out))
    assert model.stat().st_mtime_ns == written
    assert table(out) == before


def train_together(command: list[str], out: Path) -> None:
    """Two runs share a folder; one is preempted while it trains, and the other does the rest."""
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    deadline = time.monotonic() + TIMEOUT_S
    while not all((out / f"half0{half}" / "train.jsonl").exists() for half in "AB"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    runs[0].send_signal(signal.SIGUSR1)
    said, error = runs[0].communicate(timeout=TIMEOUT_S)
    assert runs[0].returncode == 128 + signal.SIGUSR1, said + error
    assert error.endswith("run the same command again to continue\n")
    assert error.count("\n") == 1
    said, error = runs[1].communicate(timeout=TIMEOUT_S)
    assert runs[1].returncode == 0, said + error
    logs = "".join((out / name / "train.log").read_text() for name in ("half0A", "half0B"))
    assert logs.count("Optimization Done.") == 2  # each once, whoever did it


@pytest.mark.slow
def test_in_steps_and_split_by_split_the_table_is_the_same(
    images: Path, whole_run: tuple[Path, str], tmp_path: Path
) -> None:
    """Prepared, then trained by two runs at once, of which one is asked to leave; then another split."""
    out = tmp_path / "out"
    script = [sys.executable, str(ROOT / "reproduce" / "run_paper.py")]
    prepare = ["--data", f"folder:{images}", *ARGUMENTS, "--treatments", "base,AnB"]
    subprocess.run([*script, "prepare", str(out), *prepare], check=True, capture_output=True, timeout=TIMEOUT_S)
    train_together([*script, "train", str(out), "--jobs", "1"], out)
    subprocess.run([*script, "report", str(out)], check=True, capture_output=True, timeout=TIMEOUT_S)
    ours = {row["network"]: row for row in table(out)}
    theirs = {row["network"]: row for row in table(whole_run[0])}
    assert list(ours) == ["half0A", "half0B", "transfer0A0B_1_3", "transfer0B0A_1_3"]
    assert all(ours[name] == theirs[name] for name in ours)
    finish(start(images, out, "--split", "1", "--treatments", "base"))
    both = {row["network"]: row for row in table(out)}
    assert list(both) == [*ours, "half1A", "half1B"]
    assert all(both[name] == ours[name] for name in ours)


@pytest.mark.slow
def test_another_seed_in_the_same_folder_is_refused(images: Path, whole_run: tuple[Path, str]) -> None:
    process = start(images, whole_run[0], "--seed", "1")
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert "was begun with --seed 0, not 1" in output


def test_packages_of_the_extra_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the wheel is installed without its extras."""
    monkeypatch.setattr("reproduce.run_paper.find_spec", lambda name: None)
    assert main(["--dry-run", "--out", str(tmp_path / "out")]) == 2
    said = "run_paper: matplotlib and jinja2 not found; run pip install 'caffe-compat[reproduce]'\n"
    assert capsys.readouterr().err == said


def test_an_unknown_layer_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "nets" / "base"
    base.mkdir(parents=True)
    for name in ("train", "val", "solver"):
        text = (ROOT / "prototxt" / "miniature" / "photos" / "base" / f"{name}.prototxt").read_text()
        (base / f"{name}.prototxt").write_text(text.replace('type: "lrn"', 'type: "lnr"'))
    assert main(["--out", str(tmp_path / "out"), "--prototxt", str(base.parent)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lnr" in error
    assert "train.prototxt" in error
    assert not (tmp_path / "out").exists()


# -- refusals and plans, without training ------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "7"], "--split 7: there is no such split; choose one of 0, 1, 2, 3, natman"),
        (["--treatments", "CnC"], "--treatments CnC: there is no such treatment"),
        (["--layers", "8"], "--layers 8: expected numbers from 1 to 7"),
        (["--data", "folder:/nowhere"], "/nowhere: no such folder"),
        (["--data", "pictures"], "--data pictures: unknown"),
        (["--prototxt", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_input_is_one_line_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--iters", "0"], ["--jobs", "x"], ["--nonsense"], ["--iters", "1", "--scale", "2"]]
)
def test_wrong_options_are_one_line_and_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_too_few_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for c in range(3):
        folder = tmp_path / "images" / f"c{c}"
        folder.mkdir(parents=True)
        for i in range(6):
            cv2.imwrite(str(folder / f"{i}.png"), np.zeros((32, 32, 3), np.uint8))
    out = tmp_path / "out"
    assert main(["--data", f"folder:{tmp_path / 'images'}", "--out", str(out)]) == 2
    assert "3 classes; expected at least 4" in capsys.readouterr().err
    assert not (out / "data" / "images.json").exists()


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "out" / "settings.json"))

    monkeypatch.setattr(experiment, "write_text", refuse)
    assert main(["--out", str(tmp_path / "out")]) == 2
    assert "settings.json: No space left on device; free some space or choose another --out" in capsys.readouterr().err


def test_dry_run_lists_the_networks_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reproduce.measure.measure", lambda folders, device, mode: [Timing(1.0, 1.0)] * 2)
    assert main(["--dry-run", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "65 networks" in said
    assert said.index("half0B") < said.index("transfer0A0B_1_1") < said.index("nolearn_1_7")
    assert not (tmp_path / "out").exists()
