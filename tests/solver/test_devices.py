"""Which CUDA devices a command line or solver file means."""

from pathlib import Path

import pytest
import torch

from caffe_compat.errors import SolverError
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log, Solver
from caffe_compat.solver.devices import device_of, parse_gpus, solver_gpus
from tests.solver.conftest import SOLVER


def test_gpu_mode_without_a_device_is_refused(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    Path("solver.prototxt").write_text(SOLVER.replace("solver_mode: CPU", "solver_mode: GPU"))
    with pytest.raises(SolverError, match="solver_mode is GPU"):
        Solver("solver.prototxt", log=Log(enabled=False))


@pytest.fixture
def four_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize(("flag", "numbers"), [("", []), ("all", [0, 1, 2, 3]), ("2", [2]), ("3,0", [3, 0])])
def test_gpu_flag(flag: str, numbers: list[int], four_devices: None) -> None:
    assert parse_gpus(flag) == numbers


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("4", "there is no CUDA device 4; PyTorch finds 4"),
        ("-1", "there is no CUDA device -1"),
        ("0,0", "names a device twice"),
        ("first", 'is "first"; expected "all" or device numbers'),
    ],
)
def test_wrong_gpu_flags(flag: str, message: str, four_devices: None) -> None:
    with pytest.raises(SolverError, match=message):
        parse_gpus(flag)


def test_the_flag_wins_over_the_file(four_devices: None) -> None:
    gpu, cpu = SolverParameter(device_id=2), SolverParameter()
    gpu.solver_mode, cpu.solver_mode = gpu.GPU, cpu.CPU
    assert solver_gpus(gpu, "", "s") == [2]
    assert solver_gpus(gpu, "1", "s") == [1]
    assert solver_gpus(cpu, "", "s") == []
    assert solver_gpus(SolverParameter(), "", "s") == []  # absent: the CPU, though Caffe's default is GPU


def test_device_of() -> None:
    assert device_of([]) == torch.device("cpu")
    assert device_of([3, 1]) == torch.device("cuda", 3)
