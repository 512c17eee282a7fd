import json
from types import SimpleNamespace

import pytest
import torch

from caffe_compat.cli import main

BLOCK = """\
Device id:                     {number}
Major revision number:         9
Minor revision number:         0
Name:                          NVIDIA H100 80GB HBM3
Total global memory:           85017493504
Number of multiprocessors:     132
CUDA runtime of PyTorch:       {runtime}"""


@pytest.fixture
def _two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        major=9, minor=0, name="NVIDIA H100 80GB HBM3", total_memory=85017493504, multi_processor_count=132
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)


def query(capsys: pytest.CaptureFixture[str], gpus: str) -> list[str]:
    """The log's lines, without time and place."""
    assert main(["device_query", f"--gpu={gpus}"]) == 0
    return [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("_two_devices")
@pytest.mark.parametrize(("gpus", "numbers"), [("all", [0, 1]), ("1", [1]), ("1,0", [1, 0])])
def test_a_block_for_each_device(capsys: pytest.CaptureFixture[str], gpus: str, numbers: list[int]) -> None:
    first, *lines = query(capsys, gpus)
    assert first == f"Querying GPUs {gpus}"
    assert "\n".join(lines) == "\n".join(BLOCK.format(number=n, runtime=torch.version.cuda) for n in numbers)


@pytest.mark.usefixtures("_two_devices")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "--gpu=all", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["Name"] == "NVIDIA H100 80GB HBM3"
    assert (first["Device id"], second["Device id"]) == (0, 1)
    assert second["Total global memory"] == 85017493504


def test_without_a_number_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert query(capsys, "") == ["Querying GPUs "]


@pytest.mark.usefixtures("_two_devices")
@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("2", "--gpu 2: there is no CUDA device 2; PyTorch finds 2\n"),
        ("x", '--gpu is "x"; expected "all" or device numbers with commas, such as 0,1\n'),
        ("0,0", "--gpu 0,0: names a device twice"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], gpus: str, message: str) -> None:
    assert main(["device_query", f"--gpu={gpus}"]) == 1
    assert f"caffe-compat device_query: {message}" in capsys.readouterr().err
