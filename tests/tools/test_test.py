"""``caffe test``: what it prints is in the golden logs (test_train.py); here its refusals."""

import shutil
from pathlib import Path

import pytest

from caffe_compat import Net
from caffe_compat.cli import main

GOLDEN = Path(__file__).parents[1] / "golden" / "log" / "train_and_test"


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN, tmp_path / "case")
    monkeypatch.chdir(tmp_path / "case")


def test_means_are_of_all_batches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "-model", "net.prototxt", "-weights", "init.caffemodel", "-iterations", "2"]) == 0
    lines = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    batches = [float(line.split(" = ")[1]) for line in lines if line.startswith("Batch") and "accuracy" in line]
    assert len(batches) == 2
    mean = next(float(line.split(" = ")[1]) for line in lines if line.startswith("accuracy = "))
    assert mean == pytest.approx(sum(batches) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--model=net.prototxt"], 2, "--weights"),
        (["--model=gone", "--weights=init.caffemodel"], 1, "gone: cannot be read"),
        (["--model=net.prototxt", "--weights=gone"], 1, "gone: cannot be read"),
        (["--model=net.prototxt", "--weights=init.caffemodel", "--iterations=0"], 1, "--iterations is 0"),
    ],
)
def test_refusals(words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", *words]) == status
    assert message in capsys.readouterr().err


def test_weights_that_do_not_fit_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    net = Path("net.prototxt").read_text()
    layers = list(Net("net.prototxt", phase="TEST").params)
    Path("net.prototxt").write_text(net.replace(f'"{layers[-1]}"', '"new"'))
    words = ["test", "--model=net.prototxt", "--weights=init.caffemodel", "--iterations=1"]
    differences = (
        f'init.caffemodel: {{}}ignored, as the net has no such layer: "{layers[-1]}"; '
        'left as they were, as no blobs came for them: "new"'
    )
    assert main(words) == 0
    lines = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    assert f"Ignoring source layer {layers[-1]}" in lines
    assert differences.format("") in lines
    assert main([*words, "--strict"]) == 1
    assert differences.format("does not fit net.prototxt wholly: ") in capsys.readouterr().err
    for name in layers:
        net = net.replace(f'"{name}"', f'"{name}_new"')
    Path("net.prototxt").write_text(net)
    assert main(words) == 1
    assert "init.caffemodel: nothing fits net.prototxt: the file has blobs for the layers" in capsys.readouterr().err
