"""A saved position in one list or database is never taken for one in another, whatever kind of source it is."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.data import encode_datum, libc_random, write_lmdb
from caffe_compat.data.index_file import write_index_file
from caffe_compat.data.leveldb import LevelDBWriter
from caffe_compat.proto import parse_message
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log, Solver

COUNT, BATCH, SIZE = 11, 4, 6
STEPS = 4  # into the second epoch

SOLVER = """
base_lr: 0.01 lr_policy: "fixed" max_iter: 100 snapshot_prefix: "snap" random_seed: 7 solver_mode: CPU
net_param {
  layer { name: "source" top: "data" top: "label" %s }
  layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
}
"""
TRANSFORM = f"transform_param {{ crop_size: {SIZE} mirror: true }}"


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, SIZE + 2, SIZE + 2), dtype=np.uint8)


def records(count: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    return ((b"%08d" % i, encode_datum(image, i % 3)) for i, image in enumerate(images(count, seed)))


def lmdb(count: int = COUNT, seed: int = 0) -> None:
    shutil.rmtree("content", ignore_errors=True)
    write_lmdb("content", records(count, seed))


def leveldb(count: int = COUNT, seed: int = 0) -> None:
    pytest.importorskip("plyvel")
    shutil.rmtree("content", ignore_errors=True)
    with LevelDBWriter("content") as writer:
        for key, value in records(count, seed):
            writer.put(key, value)


def subset(count: int = COUNT, seed: int = 0) -> None:
    if not Path("whole").exists():
        write_lmdb("whole", records(50, 0))
    chosen = np.random.default_rng(seed).permutation(50)[:count]
    write_index_file("content", "whole", chosen, chosen % 3)


def image_list(count: int = COUNT, seed: int = 0) -> None:
    for i, image in enumerate(images(count, seed)):
        cv2.imwrite(f"{seed}_{i}.png", image.transpose(1, 2, 0).copy())
    Path("content").write_text("".join(f"{seed}_{i}.png {i % 3}\n" for i in range(count)))


def hdf5_list(count: int = COUNT, seed: int = 0) -> None:
    """Of the same name and sizes whatever the seed: only what is in the file differs."""
    with h5py.File("rows.h5", "w") as file:
        file["data"] = images(count, seed)[:, :, :SIZE, :SIZE].astype(np.float32)
        file["label"] = np.arange(count) % 3
    Path("content").write_text("rows.h5\n")


def windows(count: int = COUNT, seed: int = 0) -> None:
    image_list(count, seed)
    rows = "3\n1 0.9 0 0 5 5\n1 0.1 1 1 6 6\n2 0.8 2 2 7 7\n"
    Path("content").write_text("".join(f"# {i}\n{seed}_{i}.png\n3\n8\n8\n{rows}" for i in range(count)))


#: name: (writes the file or folder ``content``, the layer that reads it)
SOURCES: dict[str, tuple[Callable[..., None], str]] = {
    "Data, LMDB": (lmdb, f'type: "Data" {TRANSFORM} data_param {{ source: "content" batch_size: 4 backend: LMDB }}'),
    "Data, LevelDB": (leveldb, f'type: "Data" {TRANSFORM} data_param {{ source: "content" batch_size: 4 }}'),
    "Data, subset": (subset, f'type: "Data" {TRANSFORM} data_param {{ source: "content" batch_size: 4 }}'),
    "ImageData": (image_list, f'type: "ImageData" {TRANSFORM} image_data_param {{ source: "content" batch_size: 4 }}'),
    "HDF5Data": (hdf5_list, 'type: "HDF5Data" hdf5_data_param { source: "content" batch_size: 4 }'),
    "WindowData": (
        windows,
        f'type: "WindowData" {TRANSFORM} window_data_param {{ source: "content" batch_size: 4 fg_threshold: 0.5 }}',
    ),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def new_process(layer: str) -> Iterator[tuple[Solver, io.StringIO]]:
    """A solver with the random streams of a new process, and its log."""
    stream = io.StringIO()
    with random.scope(), libc_random.scope():
        solver = Solver(parse_message(SOLVER % layer, SolverParameter()), log=Log(stream))
        try:
            yield solver, stream
        finally:
            solver.close()


def batches(solver: Solver) -> list[Tensor]:
    return [tensor for _ in range(3) for tensor in solver.net.layers["source"].next_batch()]


def first_batches(layer: str) -> list[Tensor]:
    with new_process(layer) as (solver, _):
        return batches(solver)


def train(layer: str) -> list[Tensor]:
    """Leave a snapshot; returns the batches that come after it."""
    with new_process(layer) as (solver, _):
        solver.step(STEPS)
        solver.snapshot()
        return batches(solver)


def resume(layer: str) -> tuple[list[Tensor], list[str]]:
    """The batches after a restore, and the warnings."""
    with new_process(layer) as (solver, stream):
        solver.restore(f"snap_iter_{STEPS}.solverstate")
        assert solver.iter == STEPS
        warned = [line.split("] ", 1)[1] for line in stream.getvalue().splitlines() if line.startswith("W")]
        return batches(solver), warned


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def assert_starts_anew(layer: str, *words: str) -> None:
    got, warned = resume(layer)
    assert_equal(got, first_batches(layer))
    assert len(warned) == 1
    for word in (f"snap_iter_{STEPS}.resume: ", '"source"', *words, "starts from its beginning, as in Caffe"):
        assert word in warned[0]


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_source_goes_on(name: str) -> None:
    write, layer = SOURCES[name]
    write()
    expected = train(layer)
    got, warned = resume(layer.replace("batch_size: 4", "batch_size: 4 prefetch: 2") if "Data," in name else layer)
    assert_equal(got, expected)
    assert warned == []


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("count", "seed"), [(5, 0), (23, 0), (COUNT, 1)], ids=["shorter", "longer", "replaced"])
def test_another_content(name: str, count: int, seed: int) -> None:
    write, layer = SOURCES[name]
    write()
    train(layer)
    write(count, seed)
    assert_starts_anew(layer, "content was ")


@pytest.mark.parametrize("name", SOURCES)
def test_another_path(name: str) -> None:
    write, layer = SOURCES[name]
    write()
    train(layer)
    Path("content").rename("renamed")
    assert_starts_anew(layer.replace('"content"', '"renamed"'), "source was content, is renamed")


@pytest.mark.parametrize("name", SOURCES)
def test_another_setting(name: str) -> None:
    write, layer = SOURCES[name]
    write()
    train(layer)
    assert_starts_anew(layer.replace("batch_size: 4", "batch_size: 3"), "batch_size was 4, is 3")


@pytest.mark.parametrize("name", ["ImageData", "HDF5Data"])
@pytest.mark.parametrize("before", [False, True])
def test_shuffle_is_what_the_file_says(name: str, before: bool) -> None:
    write, plain = SOURCES[name]
    write()
    shuffled = plain.replace("batch_size: 4", "batch_size: 4 shuffle: true")
    assert not torch.equal(first_batches(plain)[1], first_batches(shuffled)[1])
    train(shuffled if before else plain)
    words = "shuffle was True, is not set" if before else "shuffle was not set, is True"
    assert_starts_anew(plain if before else shuffled, words)


@pytest.mark.parametrize("name", SOURCES)
def test_another_type(name: str) -> None:
    write, layer = SOURCES[name]
    other = "ImageData" if name != "ImageData" else "HDF5Data"
    write()
    train(layer)
    write, layer = SOURCES[other]
    if Path("content").is_dir():
        shutil.rmtree("content")
    write()
    assert_starts_anew(layer, f"type was {name.split(',')[0]}, is {other}")


def test_a_source_that_had_no_place() -> None:
    """Input and DummyData have no place to go on from: no warning where they come, one where they went."""
    dummy = (
        'type: "DummyData" dummy_data_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 } '
        'data_filler { type: "gaussian" } data_filler { type: "constant" } }'
    )
    write, layer = SOURCES["ImageData"]
    write()
    train(dummy)
    assert resume(dummy)[1] == []
    assert resume(dummy.replace("dim: 4", "dim: 5"))[1] == []
    assert_starts_anew(layer, "type was DummyData, is ImageData")
    train(layer)
    _, warned = resume(dummy)
    assert len(warned) == 1
    assert "type was ImageData, is DummyData" in warned[0]
