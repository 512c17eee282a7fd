"""pycaffe's ``caffe.coord_map``: how the coordinates of blobs in a ``NetSpec`` lie to each other, and the Crop that
makes one fit the other.

A map is (axis, scale, shift): coordinate x of the input lies at ``scale * x + shift`` of the output, from ``axis`` on;
axis None means any.
"""

from typing import Any

import numpy as np

from caffe_compat.errors import NetError
from caffe_compat.pycaffe.net_spec import Function, Top, layers

Map = tuple[int | None, Any, Any]

#: types that leave coordinates as they are
PASS_THROUGH_LAYERS = [
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN", "Power", "ReLU",
    "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold",
]  # fmt: skip


class UndefinedMapException(NetError):
    """A layer behind which coordinates have no meaning."""


class AxisMismatchException(NetError):
    """Two maps that begin at different axes."""


class CropError(NetError, AssertionError):
    """A blob that cannot be cropped to another; scripts catch AssertionError."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(axis, stride, extent of the dilated kernel, pad) of a layer with windows."""
    params = fn.params.get("convolution_param", fn.params)
    sides = {f"{name}_{side}" for name in ("kernel", "stride", "pad") for side in "hw"} & (set(params) | set(fn.params))
    if sides:
        raise CropError(f"{fn.type_name}: {', '.join(sorted(sides))} cannot be mapped; give lists instead")
    kernel = np.array(params["kernel_size"], ndmin=1)
    dilation = np.array(params.get("dilation", 1), ndmin=1)
    stride, pad = (np.array(params.get(name, default), ndmin=1) for name, default in (("stride", 1), ("pad", 0)))
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """(axis, offset) of a Crop."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """The map of one layer; UndefinedMapException where it has none."""
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    raise UndefinedMapException(f"{fn.type_name} has no map of coordinates")


def compose(base_map: Map, next_map: Map) -> Map:
    """The map that does ``next_map`` and then ``base_map``."""
    axis, scale, shift = base_map
    next_axis, next_scale, next_shift = next_map
    if axis is not None and next_axis is not None and axis != next_axis:
        raise AxisMismatchException(f"maps from axis {axis} and from axis {next_axis} cannot be composed")
    return next_axis if axis is None else axis, scale * next_scale, scale * next_shift + shift


def inverse(coord_map: Map) -> Map:
    """The map back."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map between two blobs that have an ancestor in common."""
    above = _maps_above(top_from)
    for top, to_map in _walk(top_to):
        if top in above:
            return compose(to_map, inverse(above[top]))
    raise NetError("no map between these tops: no layers with coordinates connect them")


def _maps_above(top: Top) -> dict[Top, Map]:
    return dict(_walk(top))


def _walk(top: Top) -> list[tuple[Top, Map]]:
    """A blob and all from which it comes, each with the map from there."""
    found: dict[Top, Map] = {top: (None, 1, 0)}
    waiting = [top]
    while waiting:
        top = waiting.pop()
        # The second bottom of a Crop gives its size only.
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        try:
            own = coord_map(top.fn) if bottoms else None
        except UndefinedMapException:
            continue
        for bottom in bottoms:
            if own is not None and bottom not in found:
                found[bottom] = compose(found[top], own)
                waiting.append(bottom)
    return list(found.items())


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that gives ``top_from`` the place and size of ``top_to``."""
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    if not np.all(scale == 1):
        raise CropError(f"cannot crop: the scales differ by {scale}")
    if np.any(shift > 0):
        raise CropError(f"cannot crop: the offset {-shift} is negative, the blob to be cropped is the smaller one")
    if np.any(np.round(shift) != shift):
        raise CropError(f"cannot crop: the offset {-shift} is no whole number")
    offset = [int(-value) for value in np.round(np.atleast_1d(shift))]
    result: Top = layers.Crop(top_from, top_to, crop_param={"axis": (axis or 0) + 1, "offset": offset})
    return result
