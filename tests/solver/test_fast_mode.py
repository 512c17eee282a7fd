"""What fast mode does to nets."""

import io
from pathlib import Path

import pytest
import torch

from caffe_compat.data.device_source import DeviceSource
from caffe_compat.net import Net
from caffe_compat.solver import Log, Solver
from caffe_compat.solver.fast_mode import make_fast
from tests.solver.conftest import MakeSolver, weights

#: float32 after 12 updates: fast mode's convolutions and inner products add in another order
FAST_ROUNDING = 1e-5


def test_fast_mode_on_the_cpu_says_why_there_are_no_graphs(job: Path) -> None:
    stream = io.StringIO()
    solver = Solver("solver.prototxt", log=Log(stream), fast=True)
    try:
        assert solver.graphs is None
        assert solver.net.fast
        assert solver.test_nets[0].fast
        assert stream.getvalue().count("Fast mode without CUDA graphs: the net is on cpu") == 1
    finally:
        solver.close()


def test_fast_training_on_the_cpu_is_plain_training_up_to_rounding(job: Path) -> None:
    results = []
    for f in (False, True):
        solver = Solver("solver.prototxt", log=Log(enabled=False), fast=f)
        solver.solve()
        results.append(weights(solver))
        solver.close()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), torch.from_numpy(b), rtol=FAST_ROUNDING, atol=FAST_ROUNDING)


def test_a_net_on_cuda_gets_device_sources_and_channels_last_parameters(
    make_solver: MakeSolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_solver().net
    monkeypatch.setattr(Net, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    parameter = net.layers["conv"].blobs[0]
    before = parameter.detach().clone()
    make_fast([net])
    assert net.fast
    assert torch.backends.cudnn.benchmark
    assert isinstance(net.layers["data"].source, DeviceSource)
    assert net.layers["conv"].blobs[0] is parameter
    assert parameter.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(parameter, before)
