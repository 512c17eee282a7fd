"""What the benchmarks say where there is nothing to measure."""

import runpy
from pathlib import Path

import pytest
import torch

TIMING = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "timing.py"))


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit, match=f"--device {name}: PyTorch finds 0 CUDA devices"):
        TIMING["open_device"](name)


def test_other_devices() -> None:
    assert TIMING["open_device"]("cpu") == torch.device("cpu")
    with pytest.raises(SystemExit, match="--device gpu: there is no such device; expected cpu or cuda"):
        TIMING["open_device"]("gpu")


def test_a_net_without_such_layers() -> None:
    with pytest.raises(SystemExit, match=r"net\.prototxt: has no LRN layer; give another net to --model"):
        TIMING["check_found"]({}, Path("net.prototxt"), "LRN layer")
    TIMING["check_found"]({"norm1": (1,)}, Path("net.prototxt"), "LRN layer")
