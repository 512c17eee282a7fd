"""DummyData: blobs from fillers; constants stay, random ones are drawn anew for each batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

_LEGACY_FIELDS = ("num", "channels", "height", "width")


@register("DummyData")
class DummyData(Layer):
    """Tops of shape ``shape``, or of (num, channels, height, width) in the old form.

    ``data_filler``, and each of the shape's fields, is given once for all tops or once per top;
    no filler means zeros.
    """

    param_fields = ("dummy_data_param",)
    bottom_count = (0, 0)
    top_count = (1, None)
    is_source = True
    graph_safe = True

    def setup(self) -> None:
        param = self.param.dummy_data_param
        tops = len(self.param.top)
        fillers = list(param.data_filler) or [caffe_pb2.FillerParameter(type="constant")]
        self._fillers = self._per_top("data_filler", fillers, tops)
        self._shapes = self._legacy_shapes(tops) if self._is_legacy() else self._read_shapes(tops)
        for shape in self._shapes:
            if any(dim < 0 for dim in shape):
                self.fail(f"dummy_data_param.shape is {shape}; a dimension cannot be negative")
            self.check_count("dummy_data_param", shape)
        self.check_memory(f"holding {' and '.join(map(str, self._shapes))}", self.held_bytes(*self._shapes))
        self._values: list[Tensor] = []
        for filler, shape in zip(self._fillers, self._shapes, strict=True):
            looking = self.context.shapes_only
            self._values.append(torch.zeros(shape, dtype=self.context.dtype, device="meta" if looking else None))
            if filler.type == "constant" and not looking:
                fill(self._values[-1], filler)

    def _is_legacy(self) -> bool:
        param = self.param.dummy_data_param
        legacy = any(len(getattr(param, name)) for name in _LEGACY_FIELDS)
        if legacy and len(param.shape):
            self.fail("dummy_data_param has both shape and num, channels, height or width; keep shape")
        return legacy

    def _read_shapes(self, tops: int) -> list[Shape]:
        shapes = [tuple(int(dim) for dim in shape.dim) for shape in self.param.dummy_data_param.shape]
        return self._per_top("shape", shapes, tops)

    def _legacy_shapes(self, tops: int) -> list[Shape]:
        columns = [
            self._per_top(name, [int(value) for value in getattr(self.param.dummy_data_param, name)], tops)
            for name in _LEGACY_FIELDS
        ]
        return list(zip(*columns, strict=True))

    def _per_top(self, name: str, given: list[Any], tops: int) -> list[Any]:
        if len(given) not in (1, tops):
            self.fail(f"dummy_data_param.{name} is given {len(given)} times; expected 1 or {tops}, the number of tops")
        return given * tops if len(given) == 1 else given

    def held_bytes(self, *top_shapes: Shape) -> int:
        """Each top once."""
        return sum(map(count, top_shapes)) * self.context.dtype.itemsize

    def infer_shapes(self) -> list[Shape]:
        return list(self._shapes)

    def first_values(self) -> list[Tensor | None]:
        """The constants: Caffe writes them once."""
        pairs = zip(self._fillers, self._values, strict=True)
        return [value if filler.type == "constant" else None for filler, value in pairs]

    def next_values(self, shapes: Sequence[Shape]) -> list[Tensor | None]:
        """A random top is drawn in the shape that it has."""
        values: list[Tensor | None] = [None] * len(self._fillers)
        for i, filler in enumerate(self._fillers):
            if filler.type != "constant":
                value = torch.empty(shapes[i], dtype=self.context.dtype)
                fill(value, filler)
                values[i] = value
        return values

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        for filler in self._fillers:
            if filler.type != "constant":
                self.fail(f"its {filler.type} numbers are new in each run, which has no ONNX form; use an Input layer")
        return [graph.constant(value) for value in self._values]

    def next_batch(self) -> tuple[Tensor, ...]:
        """The tops (CPU, the net's dtype); a random one is a new tensor."""
        for i, filler in enumerate(self._fillers):
            if filler.type != "constant":
                self._values[i] = torch.empty_like(self._values[i])
                fill(self._values[i], filler)
        return tuple(self._values)
