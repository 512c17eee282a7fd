"""The flags with which a tool takes a net: phase, level, stages, how its weights have to fit, and what may run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat.tools._values import int32

if TYPE_CHECKING:
    from caffe_compat.net import Net


def add_net_arguments(parser: argparse.ArgumentParser, phase: str = "TEST") -> None:
    """``--phase``, ``--level`` and ``--stage``, which choose among the layers of the file."""
    parser.add_argument("--phase", default=phase, choices=["TRAIN", "TEST"], help=f"default {phase}")
    parser.add_argument("--level", type=int32, default=0, help="the net's level")
    parser.add_argument("--stage", default="", metavar="A,B", help="the net's stages")


def add_shape_argument(parser: argparse.ArgumentParser) -> None:
    """``--shape``, for sources whose files are elsewhere and whose fields do not tell their sizes."""
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="BLOB=AxBxC",
        help="the shape of a data layer's top, in place of its data, as --shape data=64x1x28x28; one for each top",
    )


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """``--strict`` and ``--reshape``: how well a file of weights has to fit the net."""
    parser.add_argument(
        "--strict", action="store_true", help="refuse weights unless each layer of net and file finds its fellow"
    )
    parser.add_argument(
        "--reshape", default="", metavar="A,B", help="layers that take blobs of another shape with as many values"
    )


def add_python_layers_argument(parser: argparse.ArgumentParser) -> None:
    """``--allow-python-layers``, for each command that builds a net."""
    parser.add_argument(
        "--allow-python-layers",
        action="store_true",
        help="let Python layers import and run the modules that the net's file names; only for files that you trust",
    )


def reshape_of(args: argparse.Namespace) -> list[str]:
    """The names in ``--reshape``."""
    return [layer for layer in args.reshape.split(",") if layer]


def stages_of(args: argparse.Namespace) -> list[str]:
    """The names in ``--stage``."""
    return [stage for stage in args.stage.split(",") if stage]


def open_net(model: str | Path, weights: str | Path | None, args: argparse.Namespace) -> "Net":
    """The net of a prototxt under these flags."""
    from caffe_compat.net import Net

    return Net(
        model,
        weights,
        phase=args.phase,
        level=args.level,
        stages=stages_of(args),
        allow_python_layers=args.allow_python_layers,
    )
