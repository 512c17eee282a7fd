"""Draw a net's graph: Graphviz text (.dot), or a picture (.svg, .png, .pdf) where `dot` is installed.

caffe-compat draw train_val.prototxt net.svg
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat.atomic_file import atomic_path, check_target, write_text
from caffe_compat.errors import CaffeCompatError
from caffe_compat.tools._net_arguments import add_net_arguments, stages_of

if TYPE_CHECKING:
    from caffe_compat.layers.base import Layer
    from caffe_compat.proto import caffe_pb2

PICTURES = (".svg", ".png", ".pdf")

#: fill colours by what a layer does (X11 names)
COLOURS = {
    "source": "lightgrey",
    "weights": "lightblue",
    "shape": "lightyellow",
    "loss": "lightpink",
    "other": "white",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, target, and which layers."""
    parser.add_argument("model", help="the net's prototxt")
    parser.add_argument("out", type=Path, help="target: .dot, .svg, .png or .pdf")
    parser.add_argument("--rankdir", default="TB", choices=["TB", "LR", "BT", "RL"], help="direction, default TB")
    add_net_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the picture; returns the exit status."""
    from caffe_compat.net.layer_checks import read_known_net
    from caffe_compat.net.phase_rules import filter_net, phase_value

    if args.out.suffix not in (".dot", *PICTURES):
        raise CaffeCompatError(f"{args.out}: unknown kind of picture; end the name in .dot, {', '.join(PICTURES)}")
    check_target(args.out)
    full, source = read_known_net(args.model)
    full.state.phase, full.state.level = phase_value(args.phase), args.level
    full.state.stage.extend(stages_of(args))
    dot = to_dot(filter_net(full, source), args.rankdir)
    if args.out.suffix == ".dot":
        write_text(args.out, dot)
    else:
        render(dot, args.out)
    return 0


def to_dot(net_param: "caffe_pb2.NetParameter", rankdir: str = "TB") -> str:
    """The net as Graphviz text: a box per layer, an arrow per blob, an ellipse per output blob."""
    from caffe_compat.layers.base import Layer
    from caffe_compat.net.layer_types import layer_types

    lines = [
        f"digraph {_quote(net_param.name or 'net')} {{",
        f"  rankdir={rankdir};",
        '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    types = layer_types()
    producer: dict[str, int] = {}
    unread: set[str] = set()
    for i, layer in enumerate(net_param.layer):
        layer_class = types.get(layer.type, Layer)  # a type that we lack is drawn all the same
        label = "\n".join([layer.name, layer.type, *layer_class.drawing_details(layer)])
        lines.append(f"  layer{i} [label={_quote(label)}, fillcolor={COLOURS[_kind(layer_class)]}];")
        for name in layer.bottom:
            if name not in producer:
                raise CaffeCompatError(f'layer "{layer.name}": unknown bottom blob "{name}"')
            lines.append(f"  layer{producer[name]} -> layer{i} [label={_quote(name)}];")
            unread.discard(name)
        for name in layer.top:
            producer[name] = i
            unread.add(name)
    for j, name in enumerate(sorted(unread)):
        lines.append(f"  output{j} [label={_quote(name)}, shape=ellipse, fillcolor=white];")
        lines.append(f"  layer{producer[name]} -> output{j};")
    return "\n".join([*lines, "}", ""])


def render(dot: str, out: Path) -> None:
    """Let Graphviz's ``dot`` make the picture that the name's ending asks for."""
    program = shutil.which("dot")
    if program is None:
        raise CaffeCompatError(f"{out}: Graphviz's dot is not installed; install graphviz, or write {out.stem}.dot")
    with atomic_path(out) as temporary:
        done = subprocess.run(
            [program, f"-T{out.suffix[1:]}", "-o", str(temporary)], input=dot.encode(), capture_output=True, check=False
        )
        if done.returncode:
            raise CaffeCompatError(f"{out}: dot ended with {done.returncode}: {done.stderr.decode().strip()}")


def _kind(layer_class: "type[Layer]") -> str:
    if layer_class.is_source:
        return "source"
    return "loss" if layer_class.is_loss else layer_class.drawing_kind


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
