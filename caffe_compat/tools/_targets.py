"""What ``convert`` writes: each kind of file, and how it is checked against the net that it was made from."""

import argparse
import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from caffe_compat.errors import CaffeCompatError
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.write import write_text_message
from caffe_compat.tools._checkers import Trial, Verdict, check_onnx, chosen_from
from caffe_compat.tools._exported import (
    Blobs,
    State,
    export,
    python_names,
    read_state,
    run_alone,
    run_exported,
    state_of,
)
from caffe_compat.tools._noise import noise_inputs
from caffe_compat.tools._onnx_sizes import find_sizes
from caffe_compat.tools.compare import compare

#: relative to a blob's largest value; other kernels add up in another order
TOLERANCE = 1e-4
#: the same for float16: each value is rounded to 5e-4 of itself, and errors add up from layer to layer
HALF_TOLERANCE = 2e-2
#: how many sizes of inputs a file with --dynamic is run on, the present one among them
TRIED_SIZES = 3
#: protobuf's limit on one message
ONNX_LIMIT_BYTES = 2**31


def write_state_dict(net: Net, path: Path, args: argparse.Namespace) -> Verdict:
    """``torch.save`` of the state_dict; keys ``<layer>.weight``, ``<layer>.bias``, ..."""
    state = state_of(net, args.batchnorm == "running")
    buffer = io.BytesIO()  # on a full disk PyTorch's own writing to a file ends the process
    torch.save(state, buffer)
    with open(path, "wb") as file:
        file.write(buffer.getbuffer())
    return Verdict(_check_state(state, path, args.out))


def write_safetensors(net: Net, path: Path, args: argparse.Namespace) -> Verdict:
    """The state_dict as safetensors; a parameter shared by layers is written under each name."""
    state = state_of(net, args.batchnorm == "running")
    path.write_bytes(save({name: tensor.clone().contiguous() for name, tensor in state.items()}))
    return Verdict(_check_state(state, path, args.out))


def write_exported(net: Net, path: Path, args: argparse.Namespace) -> Verdict:
    """A ``torch.export`` program that takes the net's inputs by name and returns a dict of outputs."""
    sources = [step.layer for step in net.steps if step.layer.is_source and not step.layer.is_input]
    if sources:
        sources[0].fail("a data layer cannot be exported; convert a deploy net, with Input layers")
    inputs = noise_inputs(net)
    arguments = python_names(net.inputs, ["self"])
    export(net, inputs, path, args.keep_operators)
    if args.keep_operators:
        found = run_exported(path, inputs, trust=True)
    else:
        try:
            found = run_alone(path, {arguments[name]: value for name, value in inputs.items()})
        except CaffeCompatError as error:
            raise CaffeCompatError(f"{args.out}: not written; {error}") from error
    renamed = "".join(f'; input "{blob}" is the argument {name}' for blob, name in arguments.items() if name != blob)
    return Verdict(_check_outputs(net, inputs, found, args.out) + renamed)


def write_onnx(net: Net, path: Path, args: argparse.Namespace) -> Verdict:
    """An ONNX graph of standard operators, which passes ONNX's own checker; others run it in fresh processes."""
    if importlib.util.find_spec("onnx") is None:
        raise CaffeCompatError("writing ONNX needs the onnx package; pip install 'caffe-compat[onnx]'")
    import onnx

    from caffe_compat.tools._onnx import to_onnx

    size_bytes = sum(parameter.numel() * 4 for parameter in net.parameters())
    if size_bytes >= ONNX_LIMIT_BYTES:
        raise CaffeCompatError(f"{net.source}: {size_bytes} bytes of parameters; an ONNX file holds less than 2 GiB")
    dynamic = [word for word in args.dynamic.split(",") if word]
    sizes = find_sizes(net, dynamic)
    shapes = [sizes.inputs(i) for i in range(min(len(sizes.trials), TRIED_SIZES if dynamic else 1))]
    trial = Trial(net, shapes, HALF_TOLERANCE if args.fp16 else TOLERANCE, choices=not args.fp16)

    def write_and_check(outputs: Sequence[str]) -> Verdict:
        model = to_onnx(net, dynamic, half=args.fp16, outputs=outputs)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())
        return check_onnx(path, trial, dict(zip(outputs, (value.name for value in model.graph.output), strict=True)))

    compared = chosen_from(net) if args.fp16 else []
    try:
        if compared:
            write_and_check([*net.outputs, *compared])
        verdict = write_and_check(net.outputs)
    except CaffeCompatError as error:
        raise CaffeCompatError(f"{args.out}: not written; {error}") from error
    if not compared:
        return verdict
    return verdict._replace(said=f"{verdict.said}; so are the {len(compared)} blob(s) that layers choose from")


def write_prototxt(net: Net, path: Path, args: argparse.Namespace) -> Verdict:
    """The deploy net as text; its weights are those of the source."""
    if not args.deploy:
        raise CaffeCompatError(f"{args.out}: a prototxt is for --deploy; upgrade_net_proto_text writes a net as it is")
    param = caffe_pb2.NetParameter()
    param.CopyFrom(net.filtered_param)
    param.ClearField("state")
    write_text_message(path, param)
    again = Net(path, phase=args.phase, allow_python_layers=args.allow_python_layers)
    again.load_state_dict(net.state_dict())
    inputs = noise_inputs(net)
    with torch.no_grad():
        tops = again({name: torch.from_numpy(value) for name, value in inputs.items()})
    return Verdict(_check_outputs(net, inputs, {name: top.numpy() for name, top in tops.items()}, args.out))


#: each writes its kind of file and checks it; returns what to tell the user
WRITERS: dict[str, Callable[[Net, Path, argparse.Namespace], Verdict]] = {
    ".pt": write_state_dict,
    ".safetensors": write_safetensors,
    ".pt2": write_exported,
    ".onnx": write_onnx,
    ".prototxt": write_prototxt,
}


def _check_state(state: State, path: Path, target: Path) -> str:
    again = read_state(path)
    wrong = [name for name in {**state, **again} if not _same(state.get(name), again.get(name))]
    if wrong:
        raise CaffeCompatError(f"{target}: not written; {wrong[0]} differs from the source net's")
    return f"written; {len(state)} tensors equal the source net's"


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(torch.allclose(first.cpu(), second, rtol=0, atol=0, equal_nan=True))


def _check_outputs(net: Net, inputs: Blobs, found: Blobs, target: Path) -> str:
    """Run the source on what the target ran on."""
    with torch.no_grad():
        tops = net({name: torch.from_numpy(value) for name, value in inputs.items()})
    expected = {name: np.asarray(top) for name, top in tops.items()}
    mismatch, (blob, error) = compare(found, expected, net.outputs, TOLERANCE, 0.0)
    if mismatch is not None:
        raise CaffeCompatError(
            f"{target}: not written; it differs from the source net at {mismatch.blob}{mismatch.text}"
        )
    return f"written; {len(net.outputs)} output(s) equal the source net's, largest error {error:.1e} (blob {blob})"
