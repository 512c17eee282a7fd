"""Caffe's HDF5 files for weights and solver states."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_compat.errors import ProtoError
from caffe_compat.proto import (
    SolverSnapshot,
    read_hdf5_solverstate,
    read_hdf5_weights,
    write_hdf5_solverstate,
    write_hdf5_weights,
)
from tests.proto.layer_arrays import arrays

ONES = np.ones((2, 3), np.float32)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    blobs: dict[str, list[np.ndarray | None]] = {"conv": [ONES, np.zeros(2)], "shared": [None, ONES], "relu": []}
    write_hdf5_weights(path, blobs, diffs={"conv": [ONES, None]})
    layers = {layer.name: layer for layer in read_hdf5_weights(path)}
    assert set(layers) == set(blobs)
    conv = arrays(layers["conv"])
    assert np.array_equal(conv[0], ONES)
    assert [blob.dtype for blob in conv] == [np.float32, np.float64]
    assert layers["shared"].blobs[0] is None
    assert layers["shared"].legacy == [False, False]
    with h5py.File(path) as file:  # the places are Caffe's
        assert file["data/conv/0"].dtype == np.float32
        assert file["data/conv/0"].chunks is None
        assert list(file["data/shared"]) == ["1"]
        assert list(file["diff/conv"]) == ["0"]


def test_names_with_slashes(tmp_path: Path) -> None:
    blobs = {"a": [ONES], "a/b": [2 * ONES], "c/d/e": [3 * ONES], "c/relu": []}
    with pytest.warns(UserWarning, match=r'Caffe itself cannot read layers with "/" .* \("a/b"\)'):
        write_hdf5_weights(tmp_path / "w.h5", blobs)
    layers = {layer.name: arrays(layer) for layer in read_hdf5_weights(tmp_path / "w.h5")}
    assert set(layers) == set(blobs)
    assert all(np.array_equal(layers[name], blobs[name]) for name in blobs)


def test_other_number_types_become_float32(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/x/0"] = np.arange(3, dtype=np.int16)
        file["data/x/1"] = np.arange(3, dtype=np.float16)
        file["data/x/2"] = np.arange(3, dtype=">f8")
        file.create_dataset("data/x/3", data=np.zeros(10**5, np.float32), compression="gzip")
    (layer,) = read_hdf5_weights(tmp_path / "w.h5")
    blobs = arrays(layer)
    assert [blob.dtype.str for blob in blobs] == ["<f4", "<f4", "<f8", "<f4"]
    assert blobs[0].tolist() == [0, 1, 2]


def write_h5(path: Path, make: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "w") as file:
        make(file)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "has no group /data; expected a file written by Caffe"),
        (lambda f: f.create_dataset("data", data=[1]), "has no group /data"),
        (lambda f: f.create_dataset("data/x", data=[1]), 'layer "x": is not a group of numbered datasets'),
        (lambda f: f.create_dataset("data/x/weight", data=[1]), 'layer "x": dataset "weight" is no blob number'),
        (lambda f: f.create_dataset("data/x/00", data=[1]), 'layer "x": dataset "00" is no blob number'),
        (lambda f: f.create_dataset("data/x/99999", data=[1]), 'layer "x": dataset "99999" is no blob number'),
        (lambda f: f.create_dataset("data/x/0", data="text"), "dataset /data/x/0: expected an array of numbers"),
        (lambda f: f.create_dataset("data/x/0", (2**40,), "f4", chunks=(1024,)), "takes 4398046511104 bytes; the file"),
        (
            lambda f: f.create_dataset("data/x/0", (4,), "f4", external="/etc/hostname"),
            "its values are in another file",
        ),
        (lambda f: f.create_group("data").__setitem__("x", h5py.SoftLink("/data")), 'layer "x": is a link'),
        (lambda f: f.create_group("data").__setitem__("x", h5py.ExternalLink("a", "b")), 'layer "x": is a link'),
        (lambda f: f.create_group("data/x").__setitem__("y", f["data"]), "is a link, or nested too deep"),
    ],
)
def test_odd_files(make: Callable[[h5py.File], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_h5(path, make)
    with pytest.raises(ProtoError) as caught:
        read_hdf5_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_weights_in_another_file_are_not_fetched(tmp_path: Path) -> None:
    write_h5(tmp_path / "secret.h5", lambda f: f.create_dataset("data/ip/0", data=np.ones(3)))
    path = tmp_path / "w.h5"
    write_h5(path, lambda f: f.__setitem__("data", h5py.ExternalLink("secret.h5", "/data")))
    with pytest.raises(ProtoError, match=f"^{path}: dataset /data/ip/0: its values are in another file; copy them"):
        read_hdf5_weights(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ProtoError, match=r"w\.h5: cannot be read: there is no such file"):
        read_hdf5_weights(tmp_path / "w.h5")
    with pytest.raises(ProtoError, match="there is no such file"):
        read_hdf5_weights(tmp_path)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(
        ProtoError, match=r"w\.h5: cannot be read as an HDF5 file of Caffe: .*; damaged, or something else$"
    ):
        read_hdf5_weights(tmp_path / "w.h5")


@pytest.mark.filterwarnings("ignore:.*cannot read layers")
@pytest.mark.parametrize("name", ["", ".", "a//b", "/a", "a/", "a/./b"])
def test_names_that_hdf5_cannot_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProtoError, match="HDF5 cannot hold this name"):
        write_hdf5_weights(tmp_path / "w.h5", {name: []})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*cannot read layers")
def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ProtoError, match=r'layer "a": blob 0: dtype is int64; expected float32 or float64'):
        write_hdf5_weights(tmp_path / "w.h5", {"a": [np.arange(3)]})
    with pytest.raises(ProtoError, match=r'layer "a/0": its name collides with a blob of another layer'):
        write_hdf5_weights(tmp_path / "w.h5", {"a": [ONES], "a/0": [ONES]})
    with pytest.raises(ProtoError, match=r"cannot be written: No such file or directory"):
        write_hdf5_weights(tmp_path / "none" / "w.h5", {})
    assert list(tmp_path.iterdir()) == []


GOOD = (Path(__file__).parents[1] / "golden" / "io" / "hdf5" / "w.caffemodel.h5").read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=5),
    length=st.integers(0, len(GOOD)),
)
def test_random_damage(edits: list[tuple[int, int]], length: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = bytearray(GOOD)
    for position, value in edits:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "bad.h5"
    path.write_bytes(data[:length])
    try:
        read_hdf5_weights(path)
    except ProtoError as error:
        assert "\n" not in str(error)  # noqa: PT017 - damage need not be an error


# -- solver states -----------------------------------------------------------------------------


def test_solver_state_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate.h5"
    history = [np.full((i + 1,), i, np.float32) for i in range(12)]  # 10 and 11 sort before 2
    for learned_net in ("dir/net_iter_7.caffemodel.h5", None):
        write_hdf5_solverstate(path, SolverSnapshot(7, learned_net, 3, history))
        state = read_hdf5_solverstate(path)
        assert (state.iter, state.learned_net, state.current_step) == (7, learned_net, 3)
        assert all(np.array_equal(a, b) for a, b in zip(state.history, history, strict=True))


def test_learned_net_is_a_string_with_its_zero(tmp_path: Path) -> None:
    # Caffe copies as many bytes as the type says and takes them as a C string.
    path = tmp_path / "s.solverstate.h5"
    write_hdf5_solverstate(path, SolverSnapshot(1, "net", 0, []))
    with h5py.File(path) as file:
        kind = file["learned_net"].id.get_type()
        assert (kind.get_size(), kind.get_strpad(), file["learned_net"].shape) == (4, h5py.h5t.STR_NULLTERM, ())
        assert file["iter"].shape == (1,)
        assert file["iter"].dtype == np.int32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "has no group /history"),
        (lambda f: f.create_group("history"), "has no whole number /iter; expected a solver state"),
        (lambda f: (f.create_group("history"), f.create_dataset("iter", data=[1.5])), "has no whole number /iter"),
        (lambda f: (f.create_dataset("history/1", data=[1.0]), f.create_dataset("iter", data=[1]),
                    f.create_dataset("current_step", data=[1])), "/history has 1 entries but no 0"),
    ],
)  # fmt: skip
def test_odd_solver_states(make: Callable[[h5py.File], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate.h5"
    write_h5(path, make)
    with pytest.raises(ProtoError) as caught:
        read_hdf5_solverstate(path)
    assert str(caught.value).startswith(f"{path}: {message}")
