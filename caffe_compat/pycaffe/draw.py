"""pycaffe's ``caffe.draw``: a net as a picture of layers and blobs, made by Graphviz."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field

from caffe_compat.atomic_file import atomic_path
from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import caffe_pb2

_BOX = {"shape": "record", "style": "filled"}
_BLOB = {"shape": "octagon", "style": "filled", "fillcolor": "#E0E0E0"}
_IN_PLACE = "#90EE90"
_COLOURS = {"Pooling": "#FF9900", "InnerProduct": "#CC33FF", "Convolution": "#FF5050", "Deconvolution": "#FF5050"}


class LayerError(CaffeCompatError, ValueError):
    """A layer that cannot be drawn; scripts catch ValueError."""


@dataclass
class Graph:
    """A directed graph in Graphviz's terms."""

    name: str
    rankdir: str
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)

    def to_string(self) -> str:
        """The graph as Graphviz text."""
        lines = [f"digraph {_quoted(self.name)} {{", f"rankdir={self.rankdir};"]
        for name, style in self.nodes.items():
            lines.append(f"{_quoted(name)} [{', '.join(f'{key}={_quoted(value)}' for key, value in style.items())}];")
        lines += [f"{_quoted(start)} -> {_quoted(end)} [label={_quoted(label)}];" for start, end, label in self.edges]
        return "\n".join([*lines, "}", ""])

    def create(self, format: str = "png") -> bytes:
        """The picture in a format that ``dot`` knows; "raw" and "dot" are the text itself."""
        text = self.to_string().encode()
        if format in ("raw", "dot"):
            return text
        program = shutil.which("dot")
        if program is None:
            raise CaffeCompatError("Graphviz's dot is not installed; install graphviz, or draw to a .raw file")
        done = subprocess.run([program, f"-T{format}"], input=text, capture_output=True, check=False)
        if done.returncode:
            raise CaffeCompatError(f"dot ended with {done.returncode}: {done.stderr.decode().strip()}")
        return done.stdout


def get_pooling_types_dict() -> dict[int, str]:
    """{number: name} of the pooling methods."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """What stands at the arrow to a layer's tops: the batch or the number of outputs."""
    if layer.HasField("data_param"):
        return f"Batch {layer.data_param.batch_size}"
    if layer.HasField("convolution_param"):
        return str(layer.convolution_param.num_output)
    return str(layer.inner_product_param.num_output) if layer.HasField("inner_product_param") else '""'


def _learns(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.HasField("convolution_param") or layer.HasField("inner_product_param")


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """lr_mult of weights and bias."""
    if not _learns(layer):
        raise LayerError(f'layer "{layer.name}": {layer.type} layers have no lr_mult of weights and bias')
    if len(layer.param) > 2:
        raise LayerError(f'layer "{layer.name}" has {len(layer.param)} param entries; expected at most 2')
    first, second = [param.lr_mult for param in layer.param] + [1.0] * (2 - len(layer.param))
    return first, second


def get_layer_label(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """What stands in a layer's box: name, type, window, and with ``display_lrm`` the multipliers of its rates."""
    separator = " " if rankdir in ("TB", "BT") else "\\n"  # words side by side where the graph runs down
    kind = layer.type
    parts = [layer.name]
    window = None
    if layer.HasField("pooling_param"):
        pool = layer.pooling_param
        kind = f"{kind} {get_pooling_types_dict()[pool.pool]}"
        window = (pool.kernel_size, pool.stride, pool.pad)
    elif layer.HasField("convolution_param"):
        conv = layer.convolution_param
        window = ([*conv.kernel_size, 1][0], [*conv.stride, 1][0], [*conv.pad, 0][0])
    parts.append(f"({kind})")
    if window is not None:
        parts += [f"{name}: {size}" for name, size in zip(("kernel size", "stride", "pad"), window, strict=True)]
    if display_lrm and _learns(layer) and any(get_layer_lr_mult(layer)):
        parts.append("lr mult: {:.1f}, {:.1f}".format(*get_layer_lr_mult(layer)))
    return '"' + separator.join(parts) + '"'


def choose_color_by_layertype(layertype: str) -> str:
    """The colour of a layer's box."""
    return _COLOURS.get(layertype, "#6495ED")


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Graph:
    """The graph of a net: a box for each layer, an octagon for each blob; with ``phase`` only the layers of it."""
    graph = Graph(caffe_net.name or "Net", rankdir)
    for layer in caffe_net.layer:
        if phase is not None and not _included(layer, phase):
            continue
        box = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == 1 and list(layer.bottom) == list(layer.top)
        colour = _IN_PLACE if in_place else choose_color_by_layertype(layer.type)
        graph.nodes[box] = _BOX | {"label": get_layer_label(layer, rankdir, display_lrm)[1:-1], "fillcolor": colour}
        label = get_edge_label(layer).strip('"') if label_edges else ""
        for blob in (*layer.bottom, *layer.top):
            graph.nodes[f"{blob}_blob"] = _BLOB | {"label": blob}
        graph.edges += [(f"{blob}_blob", box, "") for blob in layer.bottom]
        graph.edges += [(box, f"{blob}_blob", label) for blob in layer.top]
    return graph


def _included(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    if layer.include and layer.exclude:
        raise LayerError(f'layer "{layer.name}" has both include and exclude rules; expected one kind')
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """The bytes of a picture of kind ``ext``."""
    return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write a picture whose kind the file's ending tells; ".raw" is Graphviz text."""
    kind = os.fspath(filename).rpartition(".")[2]
    picture = draw_net(caffe_net, rankdir, kind, phase, display_lrm)
    with atomic_path(filename) as temporary:
        temporary.write_bytes(picture)


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
