"""Solver states as protobuf files."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import SolverSnapshot, caffe_pb2, read_solverstate, write_caffemodel, write_solverstate

HISTORY = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)]


def make_message() -> caffe_pb2.SolverState:
    message = caffe_pb2.SolverState(iter=300, learned_net="a/net_iter_300.caffemodel", current_step=2)
    for array in HISTORY:
        blob = message.history.add(data=array.ravel().tolist())
        blob.shape.dim.extend(array.shape)
    return message


def test_exact_bytes(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate"
    write_solverstate(path, SolverSnapshot(300, "a/net_iter_300.caffemodel", 2, HISTORY))
    assert path.read_bytes() == make_message().SerializeToString(deterministic=True)


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate"
    path.write_bytes(make_message().SerializeToString())
    state = read_solverstate(path)
    assert (state.iter, state.learned_net, state.current_step) == (300, "a/net_iter_300.caffemodel", 2)
    assert all(np.array_equal(a, b) for a, b in zip(state.history, HISTORY, strict=True))
    path.write_bytes(caffe_pb2.SolverState(iter=1).SerializeToString())
    assert read_solverstate(path).learned_net is None


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate"
    data = make_message().SerializeToString()
    path.write_bytes(data[: data.index(b"\x1a") + 10])
    with pytest.raises(ProtoError, match=r"s\.solverstate: byte \d+: field 3 needs \d+ bytes"):
        read_solverstate(path)
    path.write_bytes(b"\x1a\x00")
    with pytest.raises(ProtoError, match=r"s\.solverstate: history 0: byte 2: has 0 values"):
        read_solverstate(path)
    path.write_bytes(b"")
    with pytest.raises(ProtoError, match="the file is empty; expected a solver state"):
        read_solverstate(path)


def test_files_beyond_2_gb_are_refused(tmp_path: Path) -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**29,), (0,))
    with pytest.raises(ProtoError, match="exceed the 2 GB of a protobuf file; use snapshot_format: HDF5"):
        write_solverstate(tmp_path / "s.solverstate", SolverSnapshot(history=[huge]))


def test_what_is_something_else_is_said(tmp_path: Path) -> None:
    """Weights and states are easily taken for each other: --snapshot and --weights."""
    write_caffemodel(tmp_path / "a", caffe_pb2.NetParameter(name="n"), {})
    (tmp_path / "b").write_text("iter: 5\n")
    (tmp_path / "c").write_bytes(b"\x20\x01")
    hint = r"expected a .solverstate; to start from weights give the .caffemodel as weights \(--weights\)"
    for name, message in (("a", "is a caffemodel"), ("b", "is a text file"), ("c", "holds no iteration")):
        with pytest.raises(ProtoError, match=f"{name}: {message}; {hint}"):
            read_solverstate(tmp_path / name)
