"""Convert a net and its weights to PyTorch or ONNX, and check the result against the source.

    caffe-compat convert deploy.prototxt net.caffemodel net.safetensors   a state_dict
    caffe-compat convert deploy.prototxt net.caffemodel net.pt            a state_dict, by torch.save
    caffe-compat convert deploy.prototxt net.caffemodel net.pt2           a program, by torch.export
    caffe-compat convert deploy.prototxt net.caffemodel net.onnx          a graph (pip install 'caffe-compat[onnx]')

Input shapes are fixed in .pt2 and .onnx: set them in the prototxt. A target that gives other numbers is not kept.
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from caffe_compat.atomic_file import atomic_path
from caffe_compat.errors import CaffeCompatError
from caffe_compat.net import Net
from caffe_compat.tools._exported import Blobs, load_weights, run_exported
from caffe_compat.tools._net_arguments import add_net_arguments, add_weights_arguments, open_net, reshape_of
from caffe_compat.tools._noise import noise_inputs
from caffe_compat.tools.compare import compare

#: relative to a blob's largest value; other kernels add up in another order
TOLERANCE = 1e-4
#: protobuf's limit on one message
ONNX_LIMIT_BYTES = 2**31


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, weights, target, and which layers."""
    parser.add_argument("model", help="the net's prototxt")
    parser.add_argument("weights", type=Path, help="caffemodel, HDF5, .pt or .safetensors")
    parser.add_argument("out", type=Path, help="target: .pt, .safetensors, .pt2 or .onnx")
    add_net_arguments(parser)
    add_weights_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write and check the target; returns the exit status."""
    if args.out.suffix not in WRITERS:
        raise CaffeCompatError(f"{args.out}: unknown kind of target; end the name in {', '.join(WRITERS)}")
    net = open_net(args.model, None, args).eval()
    try:
        load_weights(net, args.weights, strict=args.strict, reshape=reshape_of(args))
        with atomic_path(args.out) as temporary:
            WRITERS[args.out.suffix](net, temporary)
            # The checks tell kinds of files by their endings.
            named = temporary.rename(temporary.with_suffix(args.out.suffix))
            try:
                checked = _check(net, named, args)
            finally:
                named.rename(temporary)
    finally:
        net.close()
    print(f"{args.out}: {checked}")
    return 0


def write_state_dict(net: Net, path: Path) -> None:
    """``torch.save`` of the state_dict; keys ``<layer>.weight``, ``<layer>.bias``, ..."""
    torch.save(net.state_dict(), path)


def write_safetensors(net: Net, path: Path) -> None:
    """The state_dict as safetensors; a parameter shared by layers is written under each name."""
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in net.state_dict().items()}, path)


def write_exported(net: Net, path: Path) -> None:
    """A ``torch.export`` program that takes the net's inputs by name and returns a dict of outputs."""
    sources = [step.layer for step in net.steps if step.layer.is_source and not step.layer.is_input]
    if sources:
        sources[0].fail("a data layer cannot be exported; convert a deploy net, with Input layers")
    inputs = {name: torch.from_numpy(value) for name, value in noise_inputs(net).items()}
    try:
        with torch.no_grad():
            program = torch.export.export(net, (), inputs)
    except RuntimeError as error:
        raise CaffeCompatError(
            f"{net.source}: torch.export cannot trace this net: {' '.join(str(error).split())}"
        ) from error
    with open(path, "wb") as file:
        torch.export.save(program, file)


def write_onnx(net: Net, path: Path) -> None:
    """An ONNX graph of standard operators, which passes ONNX's own checker."""
    if importlib.util.find_spec("onnx") is None:
        raise CaffeCompatError("writing ONNX needs the onnx package; pip install 'caffe-compat[onnx]'")
    import onnx

    from caffe_compat.tools._onnx import to_onnx

    size_bytes = sum(parameter.numel() * 4 for parameter in net.parameters())
    if size_bytes >= ONNX_LIMIT_BYTES:
        raise CaffeCompatError(f"{net.source}: {size_bytes} bytes of parameters; an ONNX file holds less than 2 GiB")
    model = to_onnx(net)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


WRITERS: dict[str, Callable[[Net, Path], None]] = {
    ".pt": write_state_dict,
    ".safetensors": write_safetensors,
    ".pt2": write_exported,
    ".onnx": write_onnx,
}


def _check(net: Net, path: Path, args: argparse.Namespace) -> str:
    """Run the target and the source on the same noise; CaffeCompatError where they differ."""
    if path.suffix == ".onnx" and importlib.util.find_spec("onnxruntime") is None:
        return "written; valid ONNX, but not run (onnxruntime is not installed)"
    inputs = noise_inputs(net)
    if path.suffix in (".pt", ".safetensors"):
        again = open_net(args.model, None, args).eval()
        load_weights(again, path)
        found = _run(again, inputs)
    else:
        found = run_exported(path, inputs)
    expected = _run(net, inputs)
    mismatch, (blob, error) = compare(found, expected, net.outputs, TOLERANCE, 0.0)
    if mismatch is not None:
        raise CaffeCompatError(
            f"{args.out}: not written; it differs from the source net at {mismatch.blob}{mismatch.text}"
        )
    return f"written; {len(net.outputs)} output(s) equal the source net's, largest error {error:.1e} (blob {blob})"


def _run(net: Net, inputs: Blobs) -> Blobs:
    with torch.no_grad():
        tops = net(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: np.asarray(top) for name, top in tops.items()}
