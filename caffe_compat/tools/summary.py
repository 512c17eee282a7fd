"""Print a net's layers, shapes, parameters and FLOPs; neither weights nor data are needed.

caffe-compat summary deploy.prototxt
caffe-compat summary train_val.prototxt --phase TRAIN --json
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from caffe_compat.errors import printable
from caffe_compat.tools._net_arguments import add_net_arguments, add_python_layers_argument, add_shape_argument

if TYPE_CHECKING:
    from caffe_compat.net.graph import Graph

NOTE = (
    "FLOPs: multiplications and additions of one forward pass in layers that are matrix products (Convolution, "
    "InnerProduct, LSTM, ...); the others add little."
)


@dataclass
class Row:
    """One layer; ``parameters`` counts shared ones too, ``new_parameters`` only those it owns."""

    name: str
    type: str
    tops: dict[str, tuple[int, ...]]
    parameters: int
    new_parameters: int
    flops: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and which of its layers."""
    parser.add_argument("model", help="the net's prototxt")
    add_net_arguments(parser)
    add_shape_argument(parser)
    add_python_layers_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")


def run(args: argparse.Namespace) -> int:
    """Print the table; returns the exit status."""
    from caffe_compat.tools._looking import look_at

    looked = look_at(args.model, args)
    graph = looked.graph()
    try:
        rows = summarize(graph, looked.replaced)
        print(as_json(rows) if args.json else table(rows))
    finally:
        for step in graph.steps:
            step.layer.close()
    return 0


def summarize(graph: "Graph", types: Mapping[str, str] | None = None) -> list[Row]:
    """One row per layer, Splits left out; ``types``: those of layers that Input layers stand for, by name."""
    from caffe_compat.net.flops import forward_flops

    shapes = graph.shapes
    seen: set[int] = set()
    rows = []
    for step in graph.steps:
        if step.layer.is_split:
            continue
        new = [p for p in step.layer.blobs if id(p) not in seen]
        seen.update(id(p) for p in new)
        rows.append(
            Row(
                step.layer.name,
                (types or {}).get(step.layer.name, step.layer.type),
                {graph.blob_names[i]: tuple(shapes[i]) for i in step.tops},
                sum(p.numel() for p in step.layer.blobs),
                sum(p.numel() for p in new),
                forward_flops(step, shapes),
            )
        )
    return rows


def as_json(rows: Sequence[Row]) -> str:
    """``layers``, each with its fields, and the totals ``parameters`` and ``flops``."""
    layers = [asdict(row) for row in rows]
    return json.dumps({"layers": layers, **_totals(rows)}, indent=2)


def _totals(rows: Sequence[Row]) -> dict[str, int]:
    return {"parameters": sum(row.new_parameters for row in rows), "flops": sum(row.flops for row in rows)}


def table(rows: Sequence[Row]) -> str:
    """Aligned plain text with totals."""
    cells: list[tuple[str, ...]] = [("layer", "type", "tops", "parameters", "FLOPs")]
    for row in rows:
        shared = "" if row.parameters == row.new_parameters else " shared"
        tops = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in row.tops.items())
        cells.append((*map(printable, (row.name, row.type, tops)), f"{row.parameters:,}{shared}", f"{row.flops:,}"))
    cells.append(("total", "", "", *(f"{total:,}" for total in _totals(rows).values())))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    lines = [
        "  ".join(
            text.ljust(width) if i < 3 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], "", NOTE])
