"""Convert a net and its weights to PyTorch or ONNX, and check the result against the source.

    caffe-compat convert deploy.prototxt net.caffemodel net.safetensors   # a state_dict
    caffe-compat convert deploy.prototxt net.caffemodel net.pt            # a state_dict, by torch.save
    caffe-compat convert deploy.prototxt net.caffemodel net.pt2           # a program, by torch.export
    caffe-compat convert deploy.prototxt net.caffemodel net.onnx          # a graph (pip install 'caffe-compat[onnx]')
    caffe-compat convert --deploy train_val.prototxt net.caffemodel deploy.prototxt

The net is as after .eval(). PyTorch alone opens a .pt2: torch.export.load("net.pt2").module()(data=images)["prob"]; an
input whose name is not Python's (input.1) is the argument that is printed. Input shapes are fixed in .pt2, and in .onnx
but for --dynamic: set them in the prototxt. A target that gives other numbers is not kept: exit status 1. An .onnx that
one program runs right and another one that is installed does not is kept, with exit status 3.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_compat.atomic_file import atomic_path, check_target
from caffe_compat.errors import CaffeCompatError, printable
from caffe_compat.tools._net_arguments import (
    add_net_arguments,
    add_python_layers_argument,
    add_shape_argument,
    add_weights_arguments,
    open_net,
    reshape_of,
)
from caffe_compat.tools._values import AXES

if TYPE_CHECKING:
    from caffe_compat.net import Net

#: the exit status for a file that one program runs right and another one does not
DOUBTED = 3
#: options that only some kinds of target have: {option: its default, kinds}
OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "batchnorm": ("caffe", (".pt", ".safetensors")),
    "keep_operators": (False, (".pt2",)),
    "dynamic": ("", (".onnx",)),
    "fp16": (False, (".onnx",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, weights, target, and which layers."""
    parser.add_argument("model", help="the net's prototxt")
    parser.add_argument("weights", type=Path, help="caffemodel, HDF5, .pt or .safetensors")
    parser.add_argument("out", type=Path, help="target: .pt, .safetensors, .pt2, .onnx; with --deploy .prototxt")
    parser.add_argument(
        "--deploy",
        action="store_true",
        help="make a deploy net of it first: Input layers for data, Softmax for SoftmaxWithLoss, no losses or Accuracy",
    )
    parser.add_argument(
        "--dynamic",
        default="",
        metavar="A,B",
        help=f".onnx: which axes of the inputs each run chooses, of {', '.join(AXES)}; the others are fixed",
    )
    parser.add_argument(
        "--fp16", action="store_true", help=".onnx: weights and values of 16 bits; inputs and outputs stay float32"
    )
    parser.add_argument(
        "--batchnorm",
        default="caffe",
        choices=["caffe", "running"],
        help=".pt, .safetensors: BatchNorm as Caffe's sums (mean, variance, factor), or as PyTorch's "
        "running_mean and running_var (default caffe)",
    )
    parser.add_argument(
        "--keep-operators",
        action="store_true",
        help=".pt2: keep this package's operators: faster, but only where caffe_compat.ops is imported",
    )
    add_net_arguments(parser)
    add_shape_argument(parser)
    add_weights_arguments(parser)
    add_python_layers_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write and check the target; returns the exit status."""
    from caffe_compat.tools._exported import load_weights
    from caffe_compat.tools._targets import WRITERS

    if args.out.suffix not in WRITERS:
        raise CaffeCompatError(f"{args.out}: unknown kind of target; end the name in {', '.join(WRITERS)}")
    for option, (default, kinds) in OPTIONS.items():
        if getattr(args, option) != default and args.out.suffix not in kinds:
            name = option.replace("_", "-")
            raise CaffeCompatError(f"{args.out}: --{name} is for {', '.join(kinds)}; leave it out")
    if args.shape and not args.deploy:
        raise CaffeCompatError(
            "--shape is for the data layers that --deploy replaces; a deploy net says its own shapes"
        )
    check_target(args.out)
    net = (_open_deployed(args) if args.deploy else open_net(args.model, None, args)).eval()
    try:
        load_weights(net, args.weights, strict=args.strict, reshape=reshape_of(args))
        with atomic_path(args.out) as temporary:
            # Kinds of files are told by their endings.
            named = temporary.rename(temporary.with_suffix(args.out.suffix))
            try:
                verdict = WRITERS[args.out.suffix](net, named, args)
            finally:
                named.rename(temporary)
    finally:
        net.close()
    print(printable(f"{args.out}: {verdict.said}"))
    unlike = _unlike_opencv(net) if args.out.suffix == ".onnx" else ""
    if unlike:
        print(printable(f"{args.out}: for programs that came from OpenCV 4: {unlike}"))
    return DOUBTED if verdict.doubted else 0


def _unlike_opencv(net: "Net") -> str:
    """What OpenCV 4 computed otherwise, each with the layers that it is true of."""
    said: dict[str, list[str]] = {}
    for step in net.steps:
        difference = step.layer.differs_from_opencv()
        if difference:
            said.setdefault(difference, []).append(f'"{step.layer.name}" ({step.layer.type})')
    return "; ".join(f"{', '.join(layers)}: {difference}" for difference, layers in said.items())


def _open_deployed(args: argparse.Namespace) -> "Net":
    from caffe_compat.net import Net
    from caffe_compat.net.deploy import deploy
    from caffe_compat.tools._looking import look_at

    looked = look_at(args.model, args)
    deployed = deploy(looked.param, looked.graph(), looked.replaced)
    print(printable(f"{args.model}: deployed: {'; '.join(deployed.changes) or 'as it is'}"))
    return Net(deployed.param, phase=args.phase, source=looked.source, allow_python_layers=args.allow_python_layers)
