"""ONNX operators that want (N, C, spatial...), on bottoms with more or fewer axes before C."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


def over_items(graph: "OnnxGraph", step: "OnnxStep", bottom: int, axis: int, operate: Callable[[str], str]) -> str:
    """``operate`` on a bottom whose channels are ``axis``: (lead..., C, spatial...) as (N, C, spatial...) and back; no
    spatial axes count as one of size 1."""
    value, dims = step.bottoms[bottom], step.dims(bottom)
    spatial = range(axis + 1, len(dims))
    if axis == 1 and spatial:
        return operate(value)
    items = graph.reshape(value, [-1, *dims[axis:], *([] if spatial else [1])])
    result = operate(items)
    sizes = [
        graph.size_at(result, 2 + i) if step.varies(bottom, [at]) else step.top_shapes[bottom][at]
        for i, at in enumerate(spatial)
    ]
    return graph.reshape(result, [*dims[:axis], step.top_shapes[bottom][axis], *sizes])
