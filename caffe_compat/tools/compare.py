"""Compare two nets, or saved blobs, and name the first layer and index that differs.

    caffe-compat compare a.prototxt b.onnx --weights a.caffemodel
    caffe-compat compare net.prototxt net.prototxt --weights w.caffemodel --dtype2 float64
    caffe-compat compare blobs_from_elsewhere.npz net.prototxt --weights2 w.caffemodel

A side is a prototxt, an exported net (.pt2, .onnx: only its outputs are seen), or an .npz with blobs by name.
A .pt2 is a program, which PyTorch runs as it opens it: it needs --trust.
Where the files of a data layer are elsewhere, both sides get the same noise in place of its batch.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_compat.errors import CaffeCompatError, printable, reading
from caffe_compat.tools._archives import check_members
from caffe_compat.tools._net_arguments import (
    add_net_arguments,
    add_python_layers_argument,
    add_shape_argument,
    add_weights_arguments,
    reshape_of,
)
from caffe_compat.tools._values import tolerance, whole

if TYPE_CHECKING:
    import torch

    from caffe_compat.net import Net

Blobs = dict[str, np.ndarray]

#: relative to a blob's largest value: float32 sums in another order, layer after layer
DEFAULT_TOLERANCE = 1e-4


@dataclass
class Mismatch:
    """The first index (in C order) at which two blobs of one name differ by more than is allowed."""

    blob: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two sides, their weights and precision, the inputs, and the tolerance."""
    parser.add_argument("first", type=Path, help=".prototxt, .npz, .pt2 or .onnx")
    parser.add_argument("second", type=Path, help="the same")
    parser.add_argument("--weights", type=Path, help="of a prototxt: caffemodel, .h5, .pt, .safetensors")
    parser.add_argument("--weights2", type=Path, help="of the second; default as the first")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "float64"],
        help="precision of a prototxt's net (default float32)",
    )
    parser.add_argument(
        "--dtype2", default="float32", choices=["float32", "float64"], help="of the second (default float32)"
    )
    parser.add_argument(
        "--inputs", type=Path, help=".npz with the inputs by name; default those in an .npz side, or noise"
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, help="of the fillers and of the noise, default 0"
    )
    parser.add_argument(
        "--rtol",
        type=tolerance,
        default=DEFAULT_TOLERANCE,
        help=f"relative to a blob's largest value, default {DEFAULT_TOLERANCE}",
    )
    parser.add_argument("--atol", type=tolerance, default=0.0, help="absolute, added to it, default 0")
    add_net_arguments(parser)
    add_shape_argument(parser)
    add_weights_arguments(parser)
    add_python_layers_argument(parser)
    parser.add_argument("--trust", action="store_true", help="open a .pt2, which is a program; only what you trust")


def run(args: argparse.Namespace) -> int:
    """0 when all common blobs agree, 1 when one differs."""
    nets = [
        _open(args.first, args.weights, args.dtype, args),
        _open(args.second, args.weights2 or args.weights, args.dtype2, args),
    ]
    inputs = _inputs(args, nets)
    sides = zip((args.first, args.second), nets, strict=True)
    first, second = (_blobs(path, net, inputs, args.trust) for path, net in sides)
    net = nets[0] or nets[1]
    names = [name for name in (_in_order(net) if net else first) if name in first and name in second]
    if not names:
        raise CaffeCompatError(f"{args.first} and {args.second} have no blob of one name; {_listed(first, second)}")
    mismatch, worst = compare(first, second, names, args.rtol, args.atol)
    if mismatch is None:
        print(
            printable(
                f"{len(names)} blobs agree; the largest error is {worst[1]:.1e} of the blob's largest value, in "
                f"{worst[0]}"
            )
        )
        return 0
    layer = f"layer {_writer(net, mismatch.blob)}, " if net else ""
    agreed = names.index(mismatch.blob)
    print(printable(f"first difference at {layer}blob {mismatch.blob}{mismatch.text}; {agreed} blobs before it agree"))
    return 1


def compare(
    first: Blobs, second: Blobs, names: list[str], rtol: float, atol: float
) -> tuple[Mismatch | None, tuple[str, float]]:
    """The first mismatch in the order of ``names``, and (blob, error) of the worst blob before it.

    A value may differ by atol + rtol * the largest finite magnitude of the second's blob; equal
    infinities and nans agree.
    """
    worst = (names[0], 0.0)
    for name in names:
        a, b = first[name].astype(np.float64), second[name].astype(np.float64)
        if a.shape != b.shape:
            return Mismatch(name, f": shapes {a.shape} and {b.shape}"), worst
        largest = float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
        with np.errstate(invalid="ignore"):
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        differs = ~(apart <= atol + rtol * largest)  # nan is not within
        if differs.any():
            index = tuple(int(i) for i in np.argwhere(differs)[0])
            return Mismatch(
                name,
                f", index {index}: {a[index]:.9g} against {b[index]:.9g}; "
                f"{int(differs.sum())} of {a.size} values differ, largest value {largest:.3g}",
            ), worst
        error = float(apart.max(initial=0.0)) / (largest or 1.0)
        if error > worst[1]:
            worst = (name, error)
    return None, worst


def _open(path: Path, weights: Path | None, dtype: str, args: argparse.Namespace) -> "Net | None":
    import torch

    from caffe_compat import random
    from caffe_compat.tools._exported import load_weights
    from caffe_compat.tools._looking import look_at

    if path.suffix in (".npz", ".pt2", ".onnx"):
        return None
    random.set_seed(args.seed)  # both sides' fillers alike, where weights leave something out
    net = look_at(path, args).net()
    if weights is not None:
        load_weights(net, weights, strict=args.strict, reshape=reshape_of(args))
    return net.to(getattr(torch, dtype))


def _inputs(args: argparse.Namespace, nets: "list[Net | None]") -> Blobs:
    """From --inputs, else from an .npz side, else noise in the shapes of the net's inputs."""
    from caffe_compat.tools._noise import noise_inputs

    wanted: Blobs = {}
    for net in nets:
        if net is not None:
            wanted = noise_inputs(net, args.seed) | wanted
    source = args.inputs or next((p for p in (args.first, args.second) if p.suffix == ".npz"), None)
    known = _read_npz(source) if source else {}
    if not any(nets):
        return known
    missing = [name for name in wanted if name not in known]
    if missing and source:
        raise CaffeCompatError(f"{source}: lacks the net's input {', '.join(missing)}; give --inputs")
    return {name: known.get(name, noise) for name, noise in wanted.items()}


def _blobs(path: Path, net: "Net | None", inputs: Mapping[str, np.ndarray], trust: bool) -> Blobs:
    import torch

    from caffe_compat.tools._exported import run_exported

    if path.suffix == ".npz":
        return _read_npz(path)
    if net is None:
        return run_exported(path, inputs, trust=trust)
    with torch.no_grad():
        tops = net.extract(_in_order(net), **_inputs_of(net, inputs))
    return {name: top.numpy() for name, top in tops.items()}


def _inputs_of(net: "Net", inputs: Mapping[str, np.ndarray]) -> "dict[str, torch.Tensor]":
    import torch

    tops = {net.blob_names[i] for step in net.steps if step.layer.is_source for i in step.tops}
    return {name: torch.from_numpy(value) for name, value in inputs.items() if name in tops}


def _read_npz(path: Path) -> Blobs:
    with reading(path, "an .npz file of arrays", CaffeCompatError):
        with open(path, "rb") as start:
            if start.read(2) not in (b"PK", b"\x93N"):  # a zip archive, an array; NumPy takes all else for pickles
                raise CaffeCompatError(f"{path}: is no NumPy file; expected an .npz file of arrays by name")
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise CaffeCompatError(f"{path}: is a single array; expected an .npz file of arrays by name")
        with file:
            _check_sizes(path, file)
            return {name.removeprefix("blob:"): _numbers(path, name, file[name]) for name in file.files}


def _check_sizes(path: Path, file: np.lib.npyio.NpzFile) -> None:
    """CaffeCompatError before memory is taken for arrays that the file does not hold."""
    assert file.zip is not None
    check_members(path, file.zip)
    for info in file.zip.infolist():
        with file.zip.open(info) as member:
            if member.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                raise CaffeCompatError(f"{path}: {info.filename} is no .npy data; expected an array of numbers")
            member.seek(0)
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            needed = math.prod(shape) * dtype.itemsize
            held = info.file_size - member.tell()
            if needed != held and not dtype.hasobject:
                raise CaffeCompatError(f"{path}: {info.filename} holds {held} bytes; its shape {shape} takes {needed}")


def _numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise CaffeCompatError(f"{path}: {name} is {array.dtype}; expected an array of numbers")
    return array


def _in_order(net: "Net") -> list[str]:
    """Blob names in the order of the layers that write them last (in-place layers write again)."""
    steps = [step for step in net.steps if not step.layer.is_split]
    last = {net.blob_names[i]: number for number, step in enumerate(steps) for i in step.tops}
    return sorted(last, key=last.__getitem__)


def _writer(net: "Net", blob: str) -> str:
    step = [step for step in net.steps if blob in (net.blob_names[i] for i in step.tops)][-1]
    return f'"{step.layer.name}" ({step.layer.type})'


def _listed(first: Blobs, second: Blobs) -> str:
    return f"the first has {', '.join(first) or 'none'}, the second {', '.join(second) or 'none'}"
