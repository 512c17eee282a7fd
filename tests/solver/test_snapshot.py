"""Snapshots: exact continuation, Caffe's own form, refusals, and a process killed at any moment."""

import io
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat.errors import CaffeCompatError, NetError, SolverError
from caffe_compat.layers.infogain_loss import InfogainLoss
from caffe_compat.proto import caffe_pb2, read_caffemodel, read_solver, write_blob
from caffe_compat.solver import Log, Solver, find_snapshot
from tests.solver.conftest import NET, SOLVER, MakeSolver, assert_same_bits, weights

KILLS = 8


def history(solver: Solver) -> list[np.ndarray]:
    return [h.numpy() for h in solver.optimizer.histories(p.parameter for p in solver.net.learnable)]


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("seed", [7, -1])
def test_continuation_is_exact(form: str, rule: str, seed: int, make_solver: MakeSolver) -> None:
    """Crops, mirrors, dropout, epochs, tests, smoothed losses: all as in the run that went on."""
    fields = {
        "snapshot_format": getattr(caffe_pb2.SolverParameter, form),
        "type": rule,
        "base_lr": 0.01,
        "random_seed": seed,
    }
    went_on_log, resumed_log = io.StringIO(), io.StringIO()
    went_on = make_solver(log=Log(went_on_log), **fields)
    went_on.solve()
    resumed = make_solver(log=Log(resumed_log), **fields)
    resumed.solve(f"snap_iter_6.solverstate{'.h5' if form == 'HDF5' else ''}")
    assert_same_bits(weights(went_on), weights(resumed))
    assert_same_bits(history(went_on), history(resumed))
    numbers = [line.split("] ")[1] for line in resumed_log.getvalue().splitlines() if " = " in line]
    numbers = [line for line in numbers if "iter/s" not in line]
    everything = [line.split("] ")[1] for line in went_on_log.getvalue().splitlines() if "] " in line]
    assert len(numbers) > 10
    assert set(numbers) <= set(everything)


def test_continuation_without_resume_file_is_caffes(make_solver: MakeSolver) -> None:
    first = make_solver()
    first.step(3)
    Path("snap_iter_3.resume").unlink()
    second = make_solver()
    second.restore("snap_iter_3.solverstate")
    assert second.iter == 3
    assert_same_bits(weights(first), weights(second))
    assert_same_bits(history(first), history(second))


def test_a_state_of_a_moved_folder_finds_its_weights(make_solver: MakeSolver, job: Path) -> None:
    first = make_solver()
    first.step(3)
    (job / "kept").mkdir()
    for file in job.glob("snap_iter_3.*"):
        shutil.move(file, job / "kept" / file.name)
    second = make_solver()
    second.restore("kept/snap_iter_3.solverstate")
    assert_same_bits(weights(first), weights(second))


def test_float64_snapshot_keeps_all_digits(make_solver: MakeSolver) -> None:
    first = make_solver(dtype=torch.float64)
    first.step(3)
    second = make_solver(dtype=torch.float64)
    second.restore("snap_iter_3.solverstate")
    assert weights(first)[0].dtype == np.float64
    assert_same_bits(weights(first), weights(second))
    assert_same_bits(history(first), history(second))


def test_snapshot_of_another_solver_type_is_refused(make_solver: MakeSolver) -> None:
    make_solver().step(3)
    adam = make_solver(type="Adam", base_lr=0.01)
    with pytest.raises(SolverError, match=r"snap_iter_3.solverstate: has 4 history blobs; Adam .* needs 8"):
        adam.restore("snap_iter_3.solverstate")


def test_snapshot_of_another_net_is_refused_and_changes_nothing(make_solver: MakeSolver, job: Path) -> None:
    make_solver().step(3)
    (job / "net.prototxt").write_text(NET.replace("num_output: 3", "num_output: 5"))
    other = make_solver()
    before = weights(other)
    with pytest.raises(SolverError, match=r'history 2 has shape .*, param 0 of layer "ip"'):
        other.restore("snap_iter_3.solverstate")
    assert_same_bits(before, weights(other))


def test_weights_that_lack_a_layer_are_refused_and_change_nothing(make_solver: MakeSolver) -> None:
    """Such as a file that was cut at the end of a layer, which reads as a whole one."""
    make_solver().step(3)
    model = caffe_pb2.NetParameter.FromString(Path("snap_iter_3.caffemodel").read_bytes())
    del model.layer[[layer.name for layer in model.layer].index("ip") :]
    Path("snap_iter_3.caffemodel").write_bytes(model.SerializeToString())
    other = make_solver()
    before = weights(other)
    with pytest.raises(NetError, match=r'nothing is copied: left as they were, as no blobs came for them: "ip"$'):
        other.restore("snap_iter_3.solverstate")
    assert_same_bits(before, weights(other))
    assert other.iter == 0


UNNAMED = """
layer { type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } } }
layer { %s type: "InnerProduct" bottom: "x" top: "h" inner_product_param { num_output: 5 } }
layer { %s type: "InnerProduct" bottom: "h" top: "o" inner_product_param { num_output: 2 } }
layer { type: "EuclideanLoss" bottom: "o" bottom: "y" top: "loss" }
"""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("", ""),
            r'snap_iter_1.caffemodel: layer "": has 2 parameter .* has 0; the net has several layers of',
        ),
        (
            ('name: "c"', 'name: "c"'),
            r'layer "c": param 0 has shape \(2, 5\) .*; the net has several layers of',
        ),
    ],
)
def test_layers_without_names_of_their_own(make_solver: MakeSolver, names: tuple[str, str], message: str) -> None:
    """They are saved, each with its blobs, and said to be of no use; Caffe, too, stops at such a snapshot."""
    Path("net.prototxt").write_text(UNNAMED % names)
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), test_interval=0, test_iter=[], snapshot=0)
    assert "net.prototxt: several layers, some with parameters, have the name" in stream.getvalue()
    solver.step(1)
    with pytest.warns(UserWarning, match="snap_iter_1.caffemodel: layers of net.prototxt share the name"):
        solver.snapshot()
    layers = read_caffemodel("snap_iter_1.caffemodel")
    saved = [blob for layer in layers if layer.type == "InnerProduct" for blob in layer.blobs if blob is not None]
    assert [blob.shape for blob in saved] == [(5, 3), (5,), (2, 5), (2,)]
    assert_same_bits(saved, weights(solver))
    with pytest.raises(NetError, match=message):
        solver.restore("snap_iter_1.solverstate")


def test_hdf5_snapshots_that_could_not_be_written_are_refused_at_the_start(make_solver: MakeSolver) -> None:
    Path("net.prototxt").write_text(UNNAMED % (('name: "c"',) * 2))
    hdf5: dict[str, Any] = {"snapshot_format": caffe_pb2.SolverParameter.HDF5, "test_interval": 0, "test_iter": []}
    with pytest.raises(SolverError, match=r'^net.prototxt: snapshot_format is HDF5, .* have the name "c"; give each a'):
        make_solver(**hdf5)
    make_solver(**hdf5, snapshot=0, snapshot_after_train=False)


def test_missing_weights_are_named(make_solver: MakeSolver) -> None:
    make_solver().step(3)
    Path("snap_iter_3.caffemodel").unlink()
    with pytest.raises(SolverError, match=r"learned_net snap_iter_3.caffemodel is not there"):
        make_solver().restore("snap_iter_3.solverstate")


def test_damaged_resume_file_is_named(make_solver: MakeSolver) -> None:
    make_solver().step(3)
    Path("snap_iter_3.resume").write_text('{"version": 1, "itera')
    with pytest.raises(SolverError, match=r"snap_iter_3.resume: cannot be read: .*; remove it"):
        make_solver().restore("snap_iter_3.solverstate")


@pytest.mark.parametrize("ending", ["caffemodel", "solverstate", "resume"])
@pytest.mark.parametrize("how", ["of another run", "of another iteration", "one value changed"])
def test_files_that_do_not_belong_together(make_solver: MakeSolver, job: Path, ending: str, how: str) -> None:
    """``auto`` takes the snapshot before; the same one asked for by name restarts the data, with one warning."""
    make_solver().step(6)
    shutil.copytree(job, job / "first", ignore=shutil.ignore_patterns("first"))
    file = Path(f"snap_iter_6.{ending}")
    if how == "one value changed":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif how == "of another run":
        make_solver(base_lr=0.04).step(6)
        shutil.move(file, "other")
        shutil.copytree(job / "first", job, dirs_exist_ok=True)
        shutil.move("other", file)
    else:
        shutil.copy(f"snap_iter_3.{ending}", file)
    stream = io.StringIO()
    assert find_snapshot("snap", Log(stream)) == Path("snap_iter_3.solverstate")
    assert stream.getvalue().count("passing over snapshot snap_iter_6.solverstate: ") == 1

    log = io.StringIO()
    named = make_solver(log=Log(log))
    if ending == "resume" and how == "one value changed":
        with pytest.raises(SolverError, match=r"snap_iter_6.resume: is damaged: .*; remove it to resume as Caffe does"):
            named.restore("snap_iter_6.solverstate")
        return
    named.restore("snap_iter_6.solverstate")
    warned = [line.split("] ", 1)[1] for line in log.getvalue().splitlines() if line.startswith("W")]
    assert len(warned) == 1
    assert warned[0].startswith("snap_iter_6.resume was written with another snapshot (other ")
    assert warned[0].endswith("): data restarts from its beginning, as in Caffe")
    fresh = make_solver()
    ours, theirs = named.net.next_batch(), fresh.net.next_batch()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_test_net_more_starts_anew_and_the_rest_goes_on(make_solver: MakeSolver) -> None:
    went_on = make_solver(test_iter=[])
    went_on.step(9)
    log = io.StringIO()
    resumed = make_solver(log=Log(log))
    resumed.restore("snap_iter_6.solverstate")
    warned = [line.split("] ", 1)[1] for line in log.getvalue().splitlines() if line.startswith("W")]
    assert warned == [
        'snap_iter_6.resume: net.prototxt: layer "data" (Data): was not there; '
        "it starts from its beginning, as in Caffe"
    ]
    assert (resumed.test_nets[0].next_batch()["label"] == torch.tensor([0.0, 1.0, 2.0])).all()


def test_a_matrix_of_infogain_is_no_state(make_solver: MakeSolver, job: Path) -> None:
    """It stands in a file that the user may change; LSTM's last values are state."""
    net = NET.replace('type: "SoftmaxWithLoss"', 'type: "InfogainLoss" infogain_loss_param { source: "h" }')
    (job / "net.prototxt").write_text(net)
    write_blob("h", np.eye(3, dtype=np.float32)[None, None])
    make_solver().step(3)
    write_blob("h", 2 * np.eye(3, dtype=np.float32)[None, None])
    second = make_solver()
    second.restore("snap_iter_3.solverstate")
    loss = second.net.layers["loss"]
    assert isinstance(loss, InfogainLoss)
    assert loss.weights.tolist() == (2 * np.eye(3)).flatten().tolist()


def test_find_snapshot_takes_the_newest_whole_one(make_solver: MakeSolver) -> None:
    assert find_snapshot("snap") is None
    assert find_snapshot("nowhere/snap") is None
    make_solver().step(9)
    assert find_snapshot("snap") == Path("snap_iter_9.solverstate")
    Path("snap_iter_9.caffemodel").write_bytes(Path("snap_iter_9.caffemodel").read_bytes()[:-20])
    stream = io.StringIO()
    assert find_snapshot("snap", Log(stream)) == Path("snap_iter_6.solverstate")
    assert "passing over snapshot snap_iter_9.solverstate" in stream.getvalue()
    Path("snap_iter_6.solverstate").unlink()  # as in a process that was killed before the end
    assert find_snapshot("snap") == Path("snap_iter_3.solverstate")
    Path("snap_iter_10.solverstate").write_bytes(b"\xff")
    Path("other_iter_99.solverstate").write_bytes(Path("snap_iter_3.solverstate").read_bytes())
    assert find_snapshot("snap") == Path("snap_iter_3.solverstate")


def test_a_snapshot_of_another_net_is_passed_over(make_solver: MakeSolver, job: Path) -> None:
    """Without a resume file, as Caffe leaves it, only the net can tell."""
    make_solver().step(6)
    mine = Path("snap_iter_6.caffemodel").read_bytes()
    net = (job / "net.prototxt").read_text()
    (job / "net.prototxt").write_text(net.replace('name: "ip"', 'name: "other"'))
    make_solver().step(6)
    (job / "net.prototxt").write_text(net)
    Path("snap_iter_6.resume").unlink()
    Path("snap_iter_3.resume").unlink()
    Path("snap_iter_3.caffemodel").write_bytes(mine)
    stream = io.StringIO()
    solver = make_solver(log=Log(stream))
    assert solver.newest_snapshot() == Path("snap_iter_3.solverstate")
    told = [line.split("] ", 1)[1] for line in stream.getvalue().splitlines() if "passing over" in line]
    assert len(told) == 1
    assert told[0].startswith("passing over snapshot snap_iter_6.solverstate: snap_iter_6.caffemodel: does not fit ")
    before = solver.net.params["ip"][0].clone()
    Path("snap_iter_3.solverstate").unlink()
    with pytest.raises(CaffeCompatError, match=r"^snap_iter_6.caffemodel: does not fit net.prototxt wholly"):
        solver.newest_snapshot()
    assert torch.equal(before, solver.net.params["ip"][0])
    Path("snap_iter_6.solverstate").unlink()
    assert solver.newest_snapshot() is None


def test_another_process_cannot_write_the_same_snapshots(make_solver: MakeSolver, job: Path) -> None:
    """From the start of solve(), or the first snapshot, to close(); two solvers of one process may."""
    command = [sys.executable, "-c", ANOTHER]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    solver = make_solver()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"written\n"
        with pytest.raises(
            SolverError, match='another process trains with snapshot_prefix "snap"; wait for it or stop'
        ):
            solver.solve()
        with pytest.raises(SolverError, match='another process trains with snapshot_prefix "snap"'):
            solver.snapshot()
        other.stdin.write(b"close\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"closed\n"
        assert not Path("snap.lock").exists()
        solver.snapshot()
        make_solver().snapshot()
        assert Path("snap.lock").exists()
        solver.close()


def test_who_may_not_write_any_more_writes_no_snapshot(job: Path) -> None:
    """Asked before the weights, and before the state that makes the snapshot count; no lock file beside them."""
    allowed = [True, True, True, True, False]

    def may_write() -> None:
        if not allowed.pop(0):
            raise SolverError("taken over")

    solver = Solver("solver.prototxt", log=Log(enabled=False), may_write=may_write)
    assert solver.snapshot() == Path("snap_iter_0.solverstate")
    solver.step(1)
    solver.snapshot()
    assert not Path("snap.lock").exists()
    solver.step(1)
    with pytest.raises(SolverError, match="taken over"):
        solver.snapshot()
    assert not list(Path().glob("snap_iter_2.*"))
    allowed[:] = [True, False]
    with pytest.raises(SolverError, match="taken over"):
        solver.snapshot()
    assert not Path("snap_iter_2.solverstate").exists()


ANOTHER = """
import sys
from caffe_compat.solver import Log, Solver
solver = Solver("solver.prototxt", log=Log(enabled=False))
solver.step(3)
print("written", flush=True)
sys.stdin.readline()
solver.close()
print("closed", flush=True)
sys.stdin.read()
"""


def test_a_failed_write_leaves_the_old_snapshot(make_solver: MakeSolver, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = make_solver()
    solver.step(3)

    def full_disk(*args: object) -> None:
        raise CaffeCompatError("no space left")

    monkeypatch.setattr("caffe_compat.solver.snapshot.write_solverstate", full_disk)
    with pytest.raises(CaffeCompatError, match="no space left"):
        solver.step(3)
    assert find_snapshot("snap") == Path("snap_iter_3.solverstate")


TRAIN = """
import sys, torch
from caffe_compat.solver import Log, Solver, find_snapshot
torch.set_num_threads(1)
print("ready", flush=True)
solver = Solver("solver.prototxt", log=Log(enabled=False))
newest = find_snapshot("snap")
if newest is not None:
    solver.restore(newest)
solver.solve()
solver.close()
"""


def _start_training() -> subprocess.Popen[str]:
    """A fresh process, as a fork of this one could not use autograd; it has imported everything."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-c", TRAIN], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_killed_at_any_moment(job: Path) -> None:
    """A snapshot every iteration, so that most kills fall into one; the end is that of an undisturbed run."""
    text = SOLVER.replace("snapshot: 3", "snapshot: 1").replace("max_iter: 12", "max_iter: 30")
    (job / "whole").mkdir()
    Path("solver.prototxt").write_text(text.replace('"snap"', '"whole/snap"'))
    param = read_solver("solver.prototxt")
    start = time.perf_counter()
    undisturbed = Solver(param, log=Log(enabled=False))
    undisturbed.solve()
    undisturbed.close()
    longest_life_s = time.perf_counter() - start
    dice = random.Random(11)
    Path("solver.prototxt").write_text(text)
    killed = 0
    for attempt in range(100):
        child = _start_training()
        try:
            child.wait(dice.uniform(0.02, longest_life_s) if killed < KILLS else None)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            killed += 1
            continue
        assert child.returncode == 0
        if killed >= KILLS or attempt >= KILLS:
            break
        for file in job.glob("snap_iter_*"):  # done before the kill: once more from the start
            file.unlink()
    assert killed >= KILLS // 2
    for ending in (".caffemodel", ".solverstate"):
        ours, theirs = Path(f"snap_iter_30{ending}").read_bytes(), Path(f"whole/snap_iter_30{ending}").read_bytes()
        if ending == ".solverstate":
            theirs = theirs.replace(b"whole/snap_iter_30", b"snap_iter_30")
            ours, theirs = ours[40:], theirs[40:]  # after the path and its length
        assert ours == theirs


def test_time_is_not_part_of_a_snapshot(make_solver: MakeSolver) -> None:
    make_solver().step(3)
    first = {path.name: path.read_bytes() for path in Path().glob("snap_iter_3.*")}
    time.sleep(0.01)
    make_solver().step(3)
    assert first == {path.name: path.read_bytes() for path in Path().glob("snap_iter_3.*")}


def test_links_to_another_disk_stay(make_solver: MakeSolver, job: Path) -> None:
    (job / "disk").mkdir()
    endings = ("caffemodel", "resume", "solverstate")
    for ending in endings:
        Path(f"snap_iter_3.{ending}").symlink_to(f"disk/{ending}")
    first = make_solver()
    first.step(3)
    first.snapshot()
    assert sorted(os.listdir("disk")) == sorted(endings)
    assert all(Path(f"snap_iter_3.{ending}").is_symlink() for ending in endings)
    second = make_solver()
    second.restore("snap_iter_3.solverstate")
    assert_same_bits(weights(first), weights(second))
