"""Two processes (gloo, CPU) that train together, against one with the joined batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.proto import read_caffemodel, read_solverstate
from caffe_compat.solver import Log, Solver
from tests.proto.layer_arrays import arrays

ROOT = Path(__file__).parents[2]
RECORDS, BATCH, ITERATIONS = 24, 3, 10
ROUNDING = 1e-5  # the same sums in another order, over ten updates

NET = """
layer {{
  name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ scale: 0.0039 }} data_param {{ source: "train_db" batch_size: {batch} backend: LMDB }}
}}
layer {{
  name: "conv" type: "Convolution" bottom: "data" top: "conv" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }}
}}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{
  name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }}
}}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""

SOLVER = """
net: "{net}" type: "SGD" base_lr: 0.1 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed"
max_iter: 10 snapshot: 4 snapshot_prefix: "{prefix}" solver_mode: CPU random_seed: 5 clip_gradients: 0.5
iter_size: 2 display: 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(1)
    records = (
        (f"{i:08d}", encode_datum(rng.integers(0, 256, (2, 7, 6), dtype=np.uint8), label=i % 3)) for i in range(RECORDS)
    )
    write_lmdb(tmp_path / "train_db", records)
    (tmp_path / "half.prototxt").write_text(NET.format(batch=BATCH))
    (tmp_path / "joined.prototxt").write_text(NET.format(batch=2 * BATCH))
    (tmp_path / "two.prototxt").write_text(SOLVER.format(net="half.prototxt", prefix="two"))
    (tmp_path / "one.prototxt").write_text(SOLVER.format(net="joined.prototxt", prefix="one"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_two(*flags: str) -> None:
    """``caffe-compat train`` as two processes that find each other by the environment, as under torchrun."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = [_start(rank, store.port, flags) for rank in range(2)]
    statuses = [child.wait(timeout=300) for child in children]
    assert statuses == [0, 0], Path("log_0").read_text() + Path("log_1").read_text()


def _start(rank: int, port: int, flags: tuple[str, ...]) -> subprocess.Popen[bytes]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | {name: str(value) for name, value in place.items()}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    command = [sys.executable, "-m", "caffe_compat.cli", "train", "--solver=two.prototxt", *flags]
    with open(f"log_{rank}", "w") as log:
        return subprocess.Popen(command, env=environment, stderr=log)


def layer_weights(path: str) -> dict[str, list[np.ndarray]]:
    return {layer.name: arrays(layer) for layer in read_caffemodel(path) if layer.blobs}


def test_two_processes_equal_one_with_the_joined_batch(folder: Path) -> None:
    run_two()
    one = Solver("one.prototxt", log=Log(enabled=False))
    one.solve()
    one.close()
    ours, theirs = layer_weights("two_iter_10.caffemodel"), layer_weights("one_iter_10.caffemodel")
    assert np.abs(theirs["ip"][0]).max() > 0.1
    for name, blobs in theirs.items():
        for a, b in zip(ours[name], blobs, strict=True):
            np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING)
    for a, b in zip(
        read_solverstate("two_iter_10.solverstate").history,
        read_solverstate("one_iter_10.solverstate").history,
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING)
    assert "Iteration 5, lr = 0.1" in Path("log_0").read_text()
    assert Path("log_1").read_text() == ""  # only the root speaks
    # Exact continuation: each process has its own place in the data.
    before = Path("two_iter_10.caffemodel").read_bytes()
    Path("two_iter_10.solverstate").unlink()
    run_two("--snapshot=auto")
    assert "Resuming from two_iter_8.solverstate" in Path("log_0").read_text()
    assert Path("two_iter_10.caffemodel").read_bytes() == before


def test_a_net_without_trained_layers_trains_nothing(folder: Path) -> None:
    frozen = 'bottom: "conv" top: "ip" param { lr_mult: 0 } param { lr_mult: 0 }'
    Path("joined.prototxt").write_text(Path("half.prototxt").read_text().replace('bottom: "conv" top: "ip"', frozen))
    solver = Solver("one.prototxt", log=Log(enabled=False))
    before = [p.clone() for p in solver.net.parameters()]
    solver.step(2)
    assert all(torch.equal(a, b) for a, b in zip(before, solver.net.parameters(), strict=True))
    solver.close()
