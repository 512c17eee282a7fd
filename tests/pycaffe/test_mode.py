"""pycaffe's process-wide settings."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_compat.pycaffe as caffe
from caffe_compat import random
from caffe_compat.errors import CaffeCompatError
from caffe_compat.pycaffe import mode

NET = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }'


@pytest.fixture(autouse=True)
def _cpu_and_one_solver_afterwards() -> Iterator[None]:
    yield
    caffe.set_mode_cpu()
    caffe.set_device(0)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)


def test_the_cpu_is_the_default() -> None:
    assert mode.device() == torch.device("cpu")
    caffe.set_device(1)  # counts for GPU mode alone
    assert mode.device() == torch.device("cpu")


def test_the_mode_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    caffe.set_device(2)
    caffe.set_mode_gpu()
    assert mode.device() == torch.device("cuda", 2)
    caffe.set_mode_cpu()
    assert mode.device() == torch.device("cpu")


def test_without_a_gpu_the_cpu_runs_after_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(mode, "_warned", False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        caffe.set_mode_gpu()
        caffe.set_mode_gpu()
    assert ["everything runs on the CPU" in str(warning.message) for warning in told] == [True]
    assert mode.device() == torch.device("cpu")


def test_without_a_gpu_that_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CAFFE_COMPAT_REQUIRE_GPU", "1")
    with pytest.raises(
        CaffeCompatError, match=r"no CUDA device, and CAFFE_COMPAT_REQUIRE_GPU=1 asks for one; use set_mo"
    ):
        caffe.set_mode_gpu()
    assert mode.device() == torch.device("cpu")


def test_solvers_may_be_processes() -> None:
    caffe.set_multiprocess(True)
    assert mode.multiprocess()
    caffe.set_multiprocess(False)
    assert not mode.multiprocess()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_new_nets_go_to_the_device(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    caffe.set_mode_gpu()
    assert caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).engine.net.device.type == "cuda"


def test_a_seed_starts_both_streams_anew() -> None:
    draws = []
    for seed in (5, 5, 6):
        caffe.set_random_seed(seed)
        draws.append((random.generator().raw(), float(torch.rand(()))))
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[2][0]
    assert draws[0][1] != draws[2][1]
    # NumPy's old generator is mt19937, too.
    assert draws[0][0] == np.random.RandomState(5).randint(2**32, dtype=np.uint32)
    assert random.is_seeded()


def test_place_among_solvers() -> None:
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(4)
    caffe.set_solver_rank(3)
    assert (caffe.solver_count(), caffe.solver_rank()) == (4, 3)
