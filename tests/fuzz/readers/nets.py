"""Nets, solvers, weights, and what a net is converted to."""

import functools
import io
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from caffe_compat import random
from caffe_compat.net import Net
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
    write_caffemodel,
    write_hdf5_solverstate,
    write_hdf5_weights,
    write_solverstate,
)
from caffe_compat.tools import summary
from caffe_compat.tools._exported import load_weights, run_exported
from caffe_compat.tools.compare import _read_npz
from tests.fuzz.readers.registry import CASES, GOLDEN, reader, stored, written

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
