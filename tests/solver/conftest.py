"""A tiny training job: an LMDB of noise images, a net with every source of randomness, a solver file."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat import random
from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.proto import parse_message
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log, Solver

IMAGES = 11  # not a multiple of the batch size, so that epochs end inside batches

NET = """
name: "tiny"
layer {
  name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.0039 crop_size: 6 mirror: true }
  data_param { source: "train_db" batch_size: 4 backend: LMDB }
}
layer {
  name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.0039 crop_size: 6 }
  data_param { source: "train_db" batch_size: 3 backend: LMDB }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.2 } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" dropout_param { dropout_ratio: 0.3 } }
layer {
  name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

SOLVER = """
net: "net.prototxt" type: "SGD" base_lr: 0.05 momentum: 0.9 weight_decay: 0.001
lr_policy: "step" gamma: 0.5 stepsize: 6 max_iter: 12
display: 2 average_loss: 3 test_interval: 4 test_iter: 2
snapshot: 3 snapshot_prefix: "snap" solver_mode: CPU random_seed: 7
"""


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    """A file with random_seed seeds the whole process; give the stream back after the test."""
    with random.scope():
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, now the working directory, with train_db, net.prototxt and solver.prototxt."""
    rng = np.random.default_rng(3)
    records = (
        (f"{i:08d}", encode_datum(rng.integers(0, 256, (3, 8, 8), dtype=np.uint8), label=i % 3)) for i in range(IMAGES)
    )
    write_lmdb(tmp_path / "train_db", records)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


MakeSolver = Callable[..., Solver]


@pytest.fixture
def make_solver(job: Path) -> Iterator[MakeSolver]:
    """Makes silent solvers of the job's file with fields replaced; closes them at the end."""
    made: list[Solver] = []

    def make(log: Log | None = None, dtype: torch.dtype = torch.float32, **fields: Any) -> Solver:
        param = parse_message(SOLVER, SolverParameter())
        for name, value in fields.items():
            param.ClearField(name)
            if isinstance(value, list):
                getattr(param, name).extend(value)
            elif value is not None:
                setattr(param, name, value)
        solver = Solver(param, log=log or Log(enabled=False), dtype=dtype, source="solver.prototxt")
        made.append(solver)
        return solver

    yield make
    for solver in made:
        solver.close()


def weights(solver: Solver) -> list[np.ndarray]:
    """Copies of all parameters."""
    return [p.detach().cpu().numpy().copy() for p in solver.net.parameters()]


def assert_same_bits(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Equal to the last bit."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.tobytes() == b.tobytes()


def messages(stream: io.StringIO) -> list[str]:
    """The log lines without glog's prefix."""
    return [line.split("] ", 1)[1] for line in stream.getvalue().splitlines() if "] " in line]


def train(make_solver: MakeSolver, **fields: Any) -> tuple[Solver, list[str]]:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), **fields)
    solver.solve()
    return solver, messages(stream)
