"""Draw a net's graph: Graphviz text (.dot), or a picture (.svg, .png, .pdf) where `dot` is installed."""

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Any

from caffe_compat.atomic_file import atomic_path, write_text
from caffe_compat.errors import CaffeCompatError
from caffe_compat.net.filter import filter_net, phase_value
from caffe_compat.proto import read_net_with_source
from caffe_compat.tools._net_arguments import add_net_arguments, stages_of

PICTURES = (".svg", ".png", ".pdf")

#: fill colours by what a layer does (X11 names)
COLOURS = {
    "source": "lightgrey",
    "weights": "lightblue",
    "shape": "lightyellow",
    "loss": "lightpink",
    "other": "white",
}
_KINDS = {
    "source": ("Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData", "WindowData"),
    "weights": ("Convolution", "Deconvolution", "Embed", "InnerProduct", "LSTM", "RNN"),
    "shape": ("Concat", "Crop", "Flatten", "Pooling", "Reshape", "SPP", "Slice", "Tile"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, target, and which layers."""
    parser.add_argument("model", help="the net's prototxt")
    parser.add_argument("out", type=Path, help="target: .dot, .svg, .png or .pdf")
    parser.add_argument("--rankdir", default="TB", choices=["TB", "LR", "BT", "RL"], help="direction, default TB")
    add_net_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the picture; returns the exit status."""
    full, source = read_net_with_source(args.model)
    full.state.phase, full.state.level = phase_value(args.phase), args.level
    full.state.stage.extend(stages_of(args))
    dot = to_dot(filter_net(full, source), args.rankdir)
    if args.out.suffix == ".dot":
        write_text(args.out, dot)
    elif args.out.suffix in PICTURES:
        render(dot, args.out)
    else:
        raise CaffeCompatError(f"{args.out}: unknown kind of picture; end the name in .dot, {', '.join(PICTURES)}")
    return 0


def to_dot(net_param: Any, rankdir: str = "TB") -> str:
    """The net as Graphviz text: a box per layer, an arrow per blob, an ellipse per output blob."""
    lines = [
        f"digraph {_quote(net_param.name or 'net')} {{",
        f"  rankdir={rankdir};",
        '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    producer: dict[str, int] = {}
    unread: set[str] = set()
    for i, layer in enumerate(net_param.layer):
        label = "\n".join([layer.name, layer.type, *_details(layer)])
        lines.append(f"  layer{i} [label={_quote(label)}, fillcolor={COLOURS[_kind(layer.type)]}];")
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


def _kind(layer_type: str) -> str:
    if layer_type.endswith("Loss") or layer_type == "Accuracy":
        return "loss"
    return next((kind for kind, types in _KINDS.items() if layer_type in types), "other")


def _details(layer: Any) -> list[str]:
    """What one wants to see at a glance: sizes of windows and outputs."""
    if layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        group = f", group {param.group}" if param.group > 1 else ""
        return [f"{param.num_output} outputs{group}", *_window(param)]
    if layer.type == "Pooling":
        param = layer.pooling_param
        method = param.PoolMethod.Name(param.pool)
        return [f"{method}, global" if param.global_pooling else method, *_window(param)]
    if layer.type == "InnerProduct":
        return [f"{layer.inner_product_param.num_output} outputs"]
    if layer.type == "LRN":
        return [f"size {layer.lrn_param.local_size}"]
    if layer.type == "Dropout":
        return [f"ratio {layer.dropout_param.dropout_ratio:g}"]
    if layer.type == "Eltwise":
        return [layer.eltwise_param.EltwiseOp.Name(layer.eltwise_param.operation)]
    return []


def _window(param: Any) -> list[str]:
    texts = [f"{name} {_per_axis(param, name)}" for name in ("kernel", "stride", "pad") if _per_axis(param, name)]
    return [", ".join(texts)] if texts else []


def _per_axis(param: Any, name: str) -> str:
    """``3``, or ``3x5`` per axis; empty when not given."""
    if param.HasField(f"{name}_h") or param.HasField(f"{name}_w"):
        return f"{getattr(param, f'{name}_h')}x{getattr(param, f'{name}_w')}"
    field = param.DESCRIPTOR.fields_by_name["kernel_size" if name == "kernel" else name]
    value = getattr(param, field.name)
    if isinstance(value, int):
        return str(value) if param.HasField(field.name) else ""
    return "x".join(map(str, value))


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
