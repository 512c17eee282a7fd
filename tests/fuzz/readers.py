"""Everything that reads a file of strangers: how it is called, and good inputs to begin with."""

import ctypes
import functools
import gzip
import io
import json
import pickle
import shutil
import struct
import time
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from rich.console import Console

from caffe_compat import random
from caffe_compat.atomic_file import write_bytes
from caffe_compat.data import Loader, Transformer, encode_datum, write_lmdb
from caffe_compat.data.annotated_transformer import AnnotatedTransformer
from caffe_compat.data.annotations import encode_annotated, parse_annotated
from caffe_compat.data.convert import ConvertOptions, convert_images
from caffe_compat.data.datum import decode_image, encode_image, parse_datum
from caffe_compat.data.image_list import ImageList
from caffe_compat.data.index_file import SubsetReader, write_index_file
from caffe_compat.data.layers.hdf5_data import HDF5Source
from caffe_compat.data.leveldb import LevelDBReader, LevelDBWriter
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.mean import read_mean, write_mean
from caffe_compat.data.pair_list import PairList
from caffe_compat.data.voc_annotation import read_label_map, read_voc
from caffe_compat.data.window_file import WindowFile
from caffe_compat.errors import DataError
from caffe_compat.net import Net
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.proto import (
    SolverSnapshot,
    caffe_pb2,
    extend_schema,
    parse_message,
    parse_net,
    read_caffemodel,
    read_hdf5_solverstate,
    read_hdf5_weights,
    read_net,
    read_solver,
    read_solverstate,
    write_blob,
    write_caffemodel,
    write_hdf5_solverstate,
    write_hdf5_weights,
    write_solverstate,
)
from caffe_compat.solver import Log, Solver, resume
from caffe_compat.solver.events import read_events
from caffe_compat.solver.log_reader import read_log
from caffe_compat.tools import summary
from caffe_compat.tools._exported import load_weights, run_exported
from caffe_compat.tools.compare import _read_npz
from reproduce import experiment
from reproduce.curves import course_of
from reproduce.datasets.cifar100 import load_cifar100
from reproduce.datasets.fashion_mnist import load_fashion_mnist
from reproduce.folder_networks import read_network, write_network
from reproduce.imagenet.ilsvrc import find_valid
from reproduce.imagenet.mat_file import read_mat
from reproduce.imagenet.tar_images import TarImages
from reproduce.options import Options
from reproduce.plan import paper_networks
from reproduce.provenance import CALLS, dates, note_call, noted_calls
from reproduce.results import read_result
from reproduce.settings import note_settings, noted_mode

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = Path(__file__).parent.parent / "cases"
_MOST_SEEDS, _MOST_SEED_BYTES = 40, 1 << 16


@dataclass(frozen=True)
class Reader:
    """``read`` gets the path of an input, which is called ``input_name``, and raises CaffeCompatError for a bad one.

    ``seeds``: makes, in an empty folder, what stands beside an input; gives good inputs.  ``form``: of which kind the
    structured mutations are.  ``names_file``: its errors name the file.  ``fuzzed``: its inputs are damaged at random;
    else it is for cases only, which may ask for more memory than there is, if they are told so.
    """

    name: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], Iterable[bytes]]
    form: str
    input_name: str
    names_file: bool = True
    fuzzed: bool = True


READERS: dict[str, Reader] = {}


def reader(
    name: str,
    seeds: Callable[[Path], Iterable[bytes]],
    form: str,
    suffix: str = "",
    *,
    names_file: bool = True,
    fuzzed: bool = True,
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Adds the function as the reader of this name; ``suffix``: of its inputs, or their whole name."""

    def add(function: Callable[[Path], object]) -> Callable[[Path], object]:
        input_name = suffix if suffix and not suffix.startswith(".") else f"input{suffix}"
        READERS[name] = Reader(name, function, seeds, form, input_name, names_file, fuzzed)
        return function

    return add


def written(write: Callable[[Path], object], suffix: str = "") -> bytes:
    """The bytes that a writer of a file leaves."""
    path = Path(f"seed{suffix}").absolute()
    write(path)
    data = path.read_bytes()
    path.unlink()
    return data


def stored(*patterns: str) -> list[bytes]:
    """Files of the golden cases."""
    found = sorted(path for pattern in patterns for path in GOLDEN.glob(pattern))
    files = [path.read_bytes() for path in found if path.stat().st_size <= _MOST_SEED_BYTES]
    return files[:: -(-len(files) // _MOST_SEEDS)] if files else []


# -- nets, solvers, weights ----------------------------------------------------------------

NET = """
name: "net"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.2 } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
"""


@functools.cache
def small_net() -> Net:
    """The net of NET."""
    with random.scope(1):
        return Net(parse_net(NET), phase="TEST")


def blobs() -> dict[str, list[np.ndarray]]:
    """Its layers' blobs."""
    return {step.layer.name: [blob.detach().numpy() for blob in step.layer.blobs] for step in small_net().steps}


def net_texts(_: Path) -> list[bytes]:
    return [NET.encode(), *stored("layers/*/net.prototxt", "nets/*/net.prototxt", "upgrade/*/input.prototxt")]


def net_binaries(folder: Path) -> list[bytes]:
    nets = [read_net_quietly(text) for text in net_texts(folder)]
    forks = [bytes.fromhex(case["hex"]) for case in json.loads((GOLDEN / "forks" / "nets.json").read_text())]
    return [net.SerializePartialToString() for net in nets if net] + stored("upgrade/*/input.bin") + forks


def read_net_quietly(text: bytes) -> caffe_pb2.NetParameter | None:
    try:
        return parse_message(text.decode(), caffe_pb2.NetParameter())
    except Exception:  # a golden case of what is refused
        return None


def solver_texts(_: Path) -> list[bytes]:
    return stored("solver/*/solver.prototxt")


def caffemodels(_: Path) -> list[bytes]:
    net = small_net().param
    double = {name: [array.astype(np.float64) for array in arrays] for name, arrays in blobs().items()}
    return [
        written(lambda path: write_caffemodel(path, net, blobs(), blobs())),
        written(lambda path: write_caffemodel(path, net, double)),
        *stored("io/*/*.caffemodel", "duplicate_names/*.caffemodel"),
        *(path.read_bytes() for path in sorted(CASES.glob("raw_data/*.caffemodel"))),
    ]


SNAPSHOT = SolverSnapshot(4, "net_iter_4.caffemodel", 1, [np.ones((2, 3), np.float32), np.zeros(4, np.float32)])


@reader("net_text", net_texts, "text", ".prototxt")
def _net_text(path: Path) -> None:
    read_net(path)


@reader("net_binary", net_binaries, "wire", ".bin")
def _net_binary(path: Path) -> None:
    read_net(path)


@reader("summary", net_texts, "text", ".prototxt")
def _summary(path: Path) -> None:
    summary.run(
        Namespace(model=path, phase="TRAIN", level=0, stage="", shape=[], allow_python_layers=False, json=False)
    )


@reader("solver_text", solver_texts, "text", ".prototxt")
def _solver_text(path: Path) -> None:
    read_solver(path)


@reader(
    "solver_binary",
    lambda folder: [
        parse_message(text.decode(), caffe_pb2.SolverParameter()).SerializeToString() for text in solver_texts(folder)
    ],
    "wire",
    ".bin",
)
def _solver_binary(path: Path) -> None:
    read_solver(path)


@reader("caffemodel", caffemodels, "wire", ".caffemodel")
def _caffemodel(path: Path) -> None:
    read_caffemodel(path)


@reader("copy_weights", caffemodels, "wire", ".caffemodel")
def _copy_weights(path: Path) -> None:
    small_net().copy_from(path)


@reader("solverstate", lambda _: [written(lambda path: write_solverstate(path, SNAPSHOT))], "wire", ".solverstate")
def _solverstate(path: Path) -> None:
    read_solverstate(path)


@reader("hdf5_weights", lambda _: [written(lambda path: write_hdf5_weights(path, blobs(), blobs()))], "hdf5", ".h5")
def _hdf5_weights(path: Path) -> None:
    read_hdf5_weights(path)


@reader("hdf5_state", lambda _: [written(lambda path: write_hdf5_solverstate(path, SNAPSHOT))], "hdf5", ".h5")
def _hdf5_state(path: Path) -> None:
    read_hdf5_solverstate(path)


@reader("schema", lambda _: [*stored("schema/*/*.proto"), *(p.read_bytes() for p in CASES.glob("*/*.proto"))], "text")
def _schema(path: Path) -> None:
    before = caffe_pb2.current_schema()
    try:
        extend_schema(path)
    finally:
        caffe_pb2.use_schema(before)


def state_dicts(save: Callable[[dict[str, torch.Tensor], Path], object], suffix: str) -> list[bytes]:
    return [written(lambda path: save(dict(small_net().state_dict()), path), suffix)]


def save_safetensors(state: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(state, path)


@reader("pt", lambda _: state_dicts(torch.save, ".pt"), "zip", ".pt")
@reader("safetensors", lambda _: state_dicts(save_safetensors, ".safetensors"), "safetensors", ".safetensors")
def _state_dict(path: Path) -> None:
    load_weights(small_net(), path)


def onnx_models(_: Path) -> list[bytes]:
    from caffe_compat.tools._onnx import to_onnx

    return [to_onnx(small_net()).SerializeToString()]


@reader("onnx", onnx_models, "wire", ".onnx")
def _onnx(path: Path) -> None:
    run_exported(path, {"data": np.zeros((2, 3, 6, 6), np.float32)})


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@reader("npz", lambda _: [npz(a=np.arange(6.0).reshape(2, 3), b=np.arange(3))], "zip", ".npz")
def _npz(path: Path) -> None:
    _read_npz(path)


# -- training: snapshots, logs, events ---------------------------------------------------------

TRAINED_NET = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 4 mirror: true }
  data_param { source: "db" batch_size: 2 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" max_iter: 2 display: 1 average_loss: 3
snapshot_prefix: "input" solver_mode: CPU random_seed: 7
"""


def trained(folder: Path) -> list[bytes]:
    """A training run's files; the .resume of its snapshot."""
    write_lmdb(folder / "db", lmdb_records())
    (folder / "net.prototxt").write_text(TRAINED_NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    with random.scope():
        solver = Solver("solver.prototxt", log=Log(io.StringIO()))
        solver.solve()
        solver.close()
    (folder / "input.resume").write_bytes((folder / "input_iter_2.resume").read_bytes())
    shutil.copy(folder / "input_iter_2.solverstate", folder / "input.solverstate")
    return [(folder / "input.resume").read_bytes()]


@reader("resume", trained, "json", ".resume")
def _resume(path: Path) -> None:
    resume.misfit(resume.read_resume(path), {"weights": ""})


@functools.cache
def trained_solver() -> Solver:
    """The solver of the run in the working directory."""
    return Solver("solver.prototxt", log=Log(io.StringIO()))


@reader("restore", trained, "resume", ".resume")
def _restore(path: Path) -> None:
    trained_solver().restore(path.with_suffix(".solverstate"))


@reader("log", lambda _: stored("log/*/log.txt"), "text", ".log")
@reader("log_gz", lambda _: [gzip.compress(text) for text in stored("log/*/log.txt")], "gzip", ".log.gz")
def _log(path: Path) -> None:
    read_log(path)


EVENTS = b"""{"event": "start", "iteration": 0, "time": 1.5}
{"event": "train", "iteration": 1, "time": 2.5, "loss": 0.5, "iterations_per_s": "inf", "outputs": {"loss": [1, 2]}}
{"event": "lr", "iteration": 1, "time": 2.5, "lr": 0.01}
{"event": "test", "iteration": 1, "time": 2.5, "net": 0, "loss": null, "outputs": {"accuracy": 0.5, "loss": "nan"}}
{"event": "snapshot", "iteration": 1, "time": 2.5, "model": "a.caffemodel", "state": "a.solverstate"}
{"event": "final", "iteration": 2, "time": 2.5, "loss": 0.25}
{"event": "done", "iteration": 2, "time": 3.5}
"""


@reader("events", lambda _: [EVENTS], "json lines", "train.jsonl")
def _events(path: Path) -> None:
    for event in read_events(path):
        event.numbers()


@reader("result", lambda _: [EVENTS], "json lines", "train.jsonl", names_file=False)
def _result(path: Path) -> None:
    network = paper_networks()[0]
    folder = path.parent / "out" / network.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    read_result(network, path.parent / "out")


def run_settings(folder: Path) -> list[bytes]:
    note_settings(Options(out=folder), 1)
    return [(folder / "settings.json").read_bytes()]


@reader("settings", run_settings, "json", "settings.json", names_file=False)
def _settings(path: Path) -> None:
    note_settings(Options(out=path.parent), 1)
    noted_mode(path.parent)


def run_network(folder: Path) -> list[bytes]:
    write_network(paper_networks()[20], folder)
    return [(folder / "network.json").read_bytes()]


@reader("network", run_network, "json", "network.json", names_file=False)
def _network(path: Path) -> None:
    folder = path.parent / "out" / paper_networks()[20].name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    read_network(folder)


@reader("course", lambda _: [EVENTS], "json lines", "train.jsonl", names_file=False)
def _course(path: Path) -> None:
    network = paper_networks()[0]
    folder = path.parent / "out" / network.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    dates([course_of(network, path.parent / "out")])


def noted_call(folder: Path) -> list[bytes]:
    note_call(Options(out=folder))
    return [file.read_bytes() for file in (folder / CALLS).iterdir()]


@reader("call", noted_call, "json", "call.json", names_file=False)
def _call(path: Path) -> None:
    folder = path.parent / "out" / CALLS
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    noted_calls(path.parent / "out")


PREPARED = {
    "made": sorted({n.data for n in paper_networks()}),
    "classes": 3,
    "size": 16,
    "test_images": {"x": 4},
    "same_numbers": True,
    "checks": {"list": "equals"},
}


@reader("prepared", lambda _: [json.dumps(PREPARED).encode()], "json", "images.json")
def _prepared(path: Path) -> None:
    folder = path.parent / "out" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    experiment._prepare_data(Options(out=folder.parent, data="folder:/nowhere"), [], Console(quiet=True))  # noqa: SLF001


# -- databases and images ----------------------------------------------------------------------


def lmdb_records(count: int = 7, size: int = 5) -> list[tuple[str, bytes]]:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return [(f"{i:08d}_{i}", encode_datum(image, i % 3)) for i, image in enumerate(images)]


def lmdbs(folder: Path) -> list[bytes]:
    """In one leaf, in pages of their own, in many leaves."""
    made = []
    for count, size in ((7, 5), (7, 80), (200, 5)):
        path = folder / f"db{count}_{size}"
        write_lmdb(path, lmdb_records(count, size))
        made.append((path / "data.mdb").read_bytes())
    return made


def annotated_records(_: Path) -> list[bytes]:
    boxes = [(1, (0.25, 0.25, 0.5, 0.75), False), (2, (0.5, 0.0, 1.0, 0.5), True)]
    return [encode_annotated(record, boxes) for _, record in lmdb_records(2)]


ANNOTATED = (
    """mirror: true expand_param { max_expand_ratio: 2 } emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.5 }"""
)


@reader("annotated_datum", annotated_records, "wire", ".bin", names_file=False)
def _annotated_datum(path: Path) -> None:
    record = parse_annotated(path.read_bytes())
    transformer = AnnotatedTransformer(parse_message(ANNOTATED, caffe_pb2.TransformationParameter()), "TRAIN")
    image = transformer.image_of(record)
    with random.scope(1):
        transformer.apply(image, transformer.plan(record, image))


VOC = b"""<annotation><size><width>20</width><height>10</height></size><object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>13</xmax><ymax>9</ymax></bndbox></object></annotation>"""


@reader("voc", lambda _: [VOC], "text", ".xml")
def _voc(path: Path) -> None:
    read_voc(path, (10, 20), {"cat": 1}, lambda _: None)


@reader("label_map", lambda _: [b'item { name: "cat" label: 1 display_name: "a cat" } item { }'], "text", ".prototxt")
def _label_map(path: Path) -> None:
    read_label_map(path, unique=True)


@reader("pair_list", lambda _: [b"a.jpg a.png\nb.jpg b.png\n"], "text", ".txt")
def _pair_list(path: Path) -> None:
    PairList(path)


@reader("lmdb", lmdbs, "bytes", ".mdb")
def _lmdb(path: Path) -> None:
    database = LMDBReader(path)
    try:
        count = sum(1 for _ in database)
        list(database.keys())
        database.record(count - 1)
        cursor = database.cursor()
        cursor.take(count + 1)
        cursor.seek(cursor.position())
    finally:
        database.close()


@reader("loader", lmdbs, "bytes", ".mdb")
def _loader(path: Path) -> None:
    loader = Loader(path, 3, Transformer(crop_size=4), threads=1, seed=1, skip_bad_records=2)
    try:
        for _ in loader:
            pass
    finally:
        loader.close()
        loader.source.database.close()


def leveldb_file(pattern: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        with LevelDBWriter(folder / "good") as writer:
            for key, value in lmdb_records():
                writer.put(key.encode(), value)
        LevelDBReader(folder / "good").close()  # its log becomes a table
        LevelDBReader(folder / "good").close()
        return [next(iter(sorted((folder / "good").glob(pattern)))).read_bytes()]

    return seeds


def read_leveldb(path: Path, pattern: str) -> None:
    damaged = path.with_name("input_db")
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(path.with_name("good"), damaged)
    shutil.copy(path, next(iter(sorted(damaged.glob(pattern)))))
    database = LevelDBReader(damaged)
    try:
        for record in database:
            database.get(record.key)
        database.record(len(database) - 1)
        database.cursor().take(9)
    finally:
        database.close()


for _pattern in ("*.ldb", "MANIFEST-*", "*.log", "CURRENT"):
    reader(f"leveldb_{_pattern.strip('*.-').lower()}", leveldb_file(_pattern), "bytes")(
        functools.partial(read_leveldb, pattern=_pattern)
    )


def datums(folder: Path) -> list[bytes]:
    floats = encode_datum(np.ones((1, 2, 3), np.float32), 4)
    return [floats, *(value for _, value in lmdb_records()[:2]), *(encode_image(data, 1) for data in images(folder))]


@reader("datum", datums, "wire", names_file=False)
def _datum(path: Path) -> None:
    datum = parse_datum(path.read_bytes())
    if datum.encoded:
        decode_image(datum.data)
    else:
        datum.array()


def images(_: Path) -> list[bytes]:
    import cv2

    noise = np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    return [cv2.imencode(suffix, noise)[1].tobytes() for suffix in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")]


@reader("image", images, "bytes")
def _image(path: Path) -> None:
    for color in (None, True, False):
        decode_image(path.read_bytes(), color, str(path))


@reader("image_list", lambda _: [b"a/b.jpg 0\nc d.png 12\nlast -1"], "text", ".txt")
def _image_list(path: Path) -> None:
    entries = ImageList(path)
    entries.label_problem()
    entries.identity()
    for number in range(len(entries)):
        entries[number]
        entries.line(number)


def index_files(folder: Path) -> list[bytes]:
    write_lmdb(folder / "db", lmdb_records())
    write_index_file(folder / "index", folder / "db", np.array([6, 0, 3]), np.array([1, 0, 2]))
    return [(folder / "index").read_bytes()]


@reader("index_file", index_files, "bytes")
def _index_file(path: Path) -> None:
    subset = SubsetReader(path)
    try:
        list(subset)
        subset.cursor().take(5)
    finally:
        subset.close()


WINDOWS = b"""# 0
im.png
3
20
30
2
1 0.9 1 2 10 12
0 0.1 3 3 1 9
# 1
im.png
3
20
30
1
2 0.8 0 0 29 19
"""


@reader("window_file", lambda _: [WINDOWS], "text", ".txt")
def _window_file(path: Path) -> None:
    WindowFile(path, 0.5, 0.5)


MEAN = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@reader("mean_binaryproto", lambda _: [written(lambda path: write_blob(path, MEAN))], "wire", ".binaryproto")
@reader("mean_npy", lambda _: [written(lambda path: write_mean(path, MEAN), ".npy")], "npy", ".npy")
def _mean(path: Path) -> None:
    read_mean(path)


def hdf5_files(folder: Path) -> list[bytes]:
    def write(path: Path, **options: Any) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=np.arange(24, dtype=np.float32).reshape(4, 6), **options)
            file.create_dataset("label", data=np.arange(4))

    write(folder / "good.h5")
    (folder / "list.txt").write_text("input.h5\n")
    return [written(write), written(lambda path: write(path, chunks=(2, 3), compression="gzip", shuffle=True))]


@reader("hdf5_data", hdf5_files, "hdf5", ".h5")
def _hdf5_data(path: Path) -> None:
    HDF5Source("list.txt", ["data", "label"], 3).load()


def hdf5_lists(folder: Path) -> list[bytes]:
    hdf5_files(folder)
    return [b"good.h5\n good.h5"]


@reader("hdf5_list", hdf5_lists, "text", ".txt")
def _hdf5_list(path: Path) -> None:
    HDF5Source(str(path), ["data", "label"], 3).load()


# -- data sets of the experiment -----------------------------------------------------------------


def idx_files(folder: Path) -> list[bytes]:
    images = struct.pack(">4I", 0x803, 3, 28, 28) + bytes(3 * 28 * 28)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels()))
    return [(folder / "t10k-labels-idx1-ubyte.gz").read_bytes()]


def idx_labels() -> bytes:
    return struct.pack(">2I", 0x801, 3) + b"\0\1\2"


@reader("idx", idx_files, "gzip", "train-labels-idx1-ubyte.gz")
def _idx(path: Path) -> None:
    load_fashion_mnist(path.parent)


def cifar_files(folder: Path) -> list[bytes]:
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 1]}
    for name in ("train", "test"):
        write_bytes(folder / name, pickle.dumps(batch, 3))
    write_bytes(folder / "meta", pickle.dumps({b"fine_label_names": [b"apple", b"bed"]}, 3))
    return [pickle.dumps(batch, 3)]


@reader("cifar", cifar_files, "bytes", "train")
def _cifar(path: Path) -> None:
    load_cifar100(path.parent)


def mat_files(_: Path) -> list[bytes]:
    folder = Path(__file__).parent.parent / "golden" / "devkit"
    return [(folder / name).read_bytes() for name in ("meta.mat", "meta_plain.mat")]


@reader("mat", mat_files, "bytes", ".mat")
def _mat(path: Path) -> None:
    read_mat(path)


def imagenet_folder(folder: Path) -> None:
    (folder / "val").mkdir(exist_ok=True)
    for number in (1, 2):
        (folder / "val" / f"ILSVRC2012_val_0000000{number}.JPEG").touch()


def kaggle_lists(folder: Path) -> list[bytes]:
    imagenet_folder(folder)
    rows = [f"ILSVRC2012_val_0000000{i},{name} 1 2 3 4" for i, name in ((1, "n01440764"), (2, "n01443537"))]
    return ["\n".join(["ImageId,PredictionString", *rows]).encode()]


@reader("kaggle", kaggle_lists, "text", "LOC_val_solution.csv")
def _kaggle(path: Path) -> None:
    find_valid(path.parent, ["n01440764", "n01443537"])


def tars(_: Path) -> list[bytes]:
    import tarfile

    inner, outer = io.BytesIO(), io.BytesIO()
    for file, name, content in ((inner, "a.JPEG", b"image"), (outer, "n01440764.tar", None)):
        with tarfile.open(fileobj=file, mode="w") as tar:
            data = inner.getvalue() if content is None else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return [outer.getvalue()]


@reader("tar", tars, "text", ".tar")
def _tar(path: Path) -> None:
    members = TarImages(path)
    for name in members.names():
        members.read(name)


# -- for cases only ------------------------------------------------------------------------------


@reader("forward", net_texts, "text", ".prototxt", fuzzed=False)
def _forward(path: Path) -> None:
    with random.scope(1):
        net = Net(path)
        net.extract(net.blob_names, **{name: torch.zeros(net.blob_shapes[name]) for name in net.inputs})


@reader("engine", net_texts, "text", ".prototxt", fuzzed=False)
def _engine(path: Path) -> None:
    """Layer by layer, and back."""
    with random.scope(1):
        net = Net(path)
        engine = BlobEngine(net)
        engine.forward()
        engine.backward()


def png(height: int, width: int, data: bytes = b"") -> bytes:
    """A grey PNG whose head says this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def hostile_folder(folder: Path) -> list[bytes]:
    """What the nets and lists of hostile cases name, below this folder."""
    bomb = encode_image(png(7000, 7000, zlib.compress(bytes(21001) * 7000, 9)), 1)
    write_lmdb(folder / "bomb", [(f"{i:08d}", bomb) for i in range(8)])
    write_lmdb(folder / "good", lmdb_records())
    data = bytearray((folder / "good" / "data.mdb").read_bytes())
    data[2 * 4096 + 10] ^= 0xFF
    (folder / "flipped.mdb").write_bytes(data)
    (folder / "h2.png").write_bytes(png(100_000, 100_000))
    (folder / "i.png").write_bytes(images(folder)[0])
    lists = {"big": b"h2.png 1\n", "small": b"i.png 1\n", "latin1": b"caf\xe9.h5\n", "sparse": b"s.h5\n"}
    for name, text in lists.items():
        (folder / f"{name}.txt").write_bytes(text)
    with h5py.File(folder / "s.h5", "w") as file:
        for name in ("data", "label"):
            file.create_dataset(name, (1 << 20, 1 << 20, 3), np.float32, chunks=(1, 1 << 10, 3))
    return []


@reader("hostile_net", hostile_folder, "text", ".prototxt", fuzzed=False)
def _hostile_net(path: Path) -> None:
    _forward(path)


@reader("hostile_list", hostile_folder, "text", ".txt", names_file=False, fuzzed=False)
def _hostile_list(path: Path) -> None:
    shutil.rmtree("out_lmdb", ignore_errors=True)
    convert_images("", ImageList(path), "out_lmdb", ConvertOptions(), threads=1)


@reader("failing", lambda _: [b"read", b"raise"], "bytes", fuzzed=False)
def _failing(path: Path) -> None:
    """What the input says, for the tests of the fuzzer itself."""
    word = path.read_text(errors="replace")
    if word == "refuse":
        raise DataError(f"{path}: is damaged")
    if word == "unnamed":
        raise DataError("is damaged")
    if word == "raise":
        raise KeyError("x")
    if word == "crash":
        ctypes.string_at(0)
    if word == "hang":
        time.sleep(60)
    if word == "memory":
        bytearray(2 << 30)
