"""Nets that a command only looks at: nothing is written, and files of data and means may be elsewhere."""

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from caffe_compat import random
from caffe_compat.data import libc_random
from caffe_compat.errors import CaffeCompatError, DataError, NetError, ProtoError
from caffe_compat.layers.base import Layer, LayerContext, Shape
from caffe_compat.net import Net
from caffe_compat.net.graph import Graph
from caffe_compat.net.layer_checks import read_known_net
from caffe_compat.net.layer_types import layer_types
from caffe_compat.net.phase_rules import filter_net, phase_value
from caffe_compat.net.splits import insert_splits
from caffe_compat.proto import Source, caffe_pb2
from caffe_compat.tools._net_arguments import stages_of


@dataclass
class Looked:
    """A filtered net in which Input layers stand for sources that cannot be read; ``replaced``: {name: its type}."""

    param: caffe_pb2.NetParameter
    source: Source
    replaced: dict[str, str] = field(default_factory=dict)
    allow_python_layers: bool = False

    @property
    def phase(self) -> str:
        """TRAIN or TEST."""
        return caffe_pb2.Phase.Name(self.param.state.phase)

    def graph(self) -> Graph:
        """The connected layers, without memory for parameters."""
        context = LayerContext(
            phase=self.phase, source=self.source, shapes_only=True, allow_python_layers=self.allow_python_layers
        )
        return Graph(insert_splits(self.param, self.source), context)

    def net(self, dtype: torch.dtype = torch.float32) -> Net:
        """A net that runs; layers that would write files only read their bottoms."""
        param = type(self.param)()
        param.CopyFrom(self.param)
        for layer in param.layer:
            if layer.type in layer_types() and layer_types()[layer.type].writes_files:
                layer.CopyFrom(caffe_pb2.LayerParameter(name=layer.name, type="Silence", bottom=layer.bottom))
        state = param.state
        return Net(
            param,
            phase=self.phase,
            level=state.level,
            stages=state.stage,
            source=self.source,
            dtype=dtype,
            allow_python_layers=self.allow_python_layers,
        )


def look_at(model: str | Path, args: argparse.Namespace) -> Looked:
    """The net of a prototxt under the flags of ``add_net_arguments`` and ``add_shape_argument``."""
    full, source = read_known_net(model)
    full.state.phase, full.state.level = phase_value(args.phase), args.level
    full.state.stage.extend(stages_of(args))
    looked = Looked(filter_net(full, source), source, allow_python_layers=args.allow_python_layers)
    shapes = _given_shapes(args.shape)
    unused = set(shapes)
    for param in looked.param.layer:
        layer_class = layer_types().get(param.type)
        # Only those who say what they know without data read files.
        if layer_class is None or layer_class.shapes_without_data is Layer.shapes_without_data:
            continue
        unused.difference_update(param.top)
        found = _shapes_to_take(layer_class, param, looked, shapes)
        if found is not None:
            looked.replaced[param.name] = param.type
            param.CopyFrom(_input_layer(param, found))
    if unused:
        raise CaffeCompatError(f"--shape {min(unused)}: no data layer of {source.name} has a top of this name")
    return looked


def _shapes_to_take(
    layer_class: type[Layer], param: caffe_pb2.LayerParameter, looked: Looked, shapes: Mapping[str, Shape]
) -> list[Shape] | None:
    """Shapes of the tops where they stand in for the data; None where these can be read."""
    if any(name in shapes for name in param.top):
        missing = [name for name in param.top if name not in shapes]
        if missing:
            raise CaffeCompatError(f'--shape: layer "{param.name}" has a top {missing[0]}, too; give its shape')
        return [shapes[name] for name in param.top]
    context = LayerContext(phase=looked.phase, source=looked.source)
    reason = _try(layer_class(param, context))
    if reason is None:
        return None
    found = _without_mean(layer_class, param, context)
    if found is None:
        try:
            found = layer_class(param, context).shapes_without_data()
        except NetError as error:
            wanted = " ".join(f"--shape {name}=..." for name in param.top)
            raise NetError(f"{reason}; {str(error).rpartition('): ')[2]}: give {wanted}") from None
    sizes = ", ".join(f"{name} {'x'.join(map(str, s))}" for name, s in zip(param.top, found, strict=False))
    layer = layer_class(param, context)
    layer.warn(f"looked at without its data, as {sizes} ({reason.removeprefix(f'{layer.where()}: ')})")
    return found


def _try(layer: Layer) -> str | None:
    """Why the layer cannot be set up for lack of files; None when it can."""
    try:
        _set_up(layer)
    except (DataError, ProtoError) as error:
        return str(error)
    return None


def _without_mean(
    layer_class: type[Layer], param: caffe_pb2.LayerParameter, context: LayerContext
) -> list[Shape] | None:
    """The shapes that the data have, where nothing but the mean file is missing."""
    if not param.transform_param.HasField("mean_file"):
        return None
    plain = caffe_pb2.LayerParameter()
    plain.CopyFrom(param)
    plain.transform_param.ClearField("mean_file")
    try:
        return _set_up(layer_class(plain, context))
    except (DataError, ProtoError):
        return None


def _set_up(layer: Layer) -> list[Shape]:
    with random.scope(0), libc_random.scope():  # the net itself takes its draws later
        layer.setup()
        shapes = layer.infer_shapes()
    layer.close()
    return shapes


def _input_layer(param: caffe_pb2.LayerParameter, shapes: Iterable[Shape]) -> caffe_pb2.LayerParameter:
    layer = caffe_pb2.LayerParameter(name=param.name, type="Input", top=param.top, include=param.include)
    for shape in shapes:
        layer.input_param.shape.add(dim=shape)
    return layer


def _given_shapes(words: Iterable[str]) -> dict[str, Shape]:
    shapes = {}
    for word in words:
        name, _, sizes = word.rpartition("=")
        if not name or not re.fullmatch(r"\d+(x\d+)*", sizes):
            raise CaffeCompatError(f"--shape {word}: expected BLOB=AxBxC, as data=64x1x28x28")
        shapes[name] = tuple(int(size) for size in sizes.split("x"))
    return shapes
