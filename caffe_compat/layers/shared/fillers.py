"""Fillers: the first values of parameters, drawn from Caffe's random stream in Caffe's order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Shape, count
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import generator

Array = npt.NDArray[Any]
Real = type[np.float32] | type[np.float64]


def fill(tensor: Tensor, filler: caffe_pb2.FillerParameter) -> None:
    """Fill ``tensor`` in place as the FillerParameter says.

    Numbers are made in float64 for a float64 tensor and in float32 for any other, as in Caffe's
    double and float nets.  Raises NetError for an unknown type, a field out of range, or a shape
    that the filler cannot fill.
    """
    shape = tuple(tensor.shape)
    if filler.type not in _FILLERS:
        raise NetError(f'filler type is "{filler.type}"; expected one of {", ".join(_FILLERS)}')
    if count(shape) == 0:
        raise NetError(f"{filler.type} filler: a blob of shape {shape} has nothing to fill")
    if filler.sparse != -1 and filler.type != "gaussian":
        raise NetError(f"{filler.type} filler: sparse is {filler.sparse}; only the gaussian filler has it")
    real: Real = np.float64 if tensor.dtype == torch.float64 else np.float32
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(_FILLERS[filler.type](shape, filler, real)))


def _constant(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    return np.full(shape, filler.value, real)


def _uniform(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    if not filler.min <= filler.max:
        raise NetError(f"uniform filler: min is {filler.min} and max {filler.max}; expected min <= max")
    return generator().uniform(shape, filler.min, filler.max, real)


def _gaussian(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    if not filler.std > 0:
        raise NetError(f"gaussian filler: std is {filler.std}; expected more than 0")
    if filler.sparse < -1:
        raise NetError(f"gaussian filler: sparse is {filler.sparse}; expected at least 0, or -1 for none")
    if filler.sparse >= 0 and (not shape or filler.sparse > shape[0]):
        raise NetError(f"gaussian filler: sparse is {filler.sparse}; a blob of shape {shape} has fewer outputs")
    values = generator().gaussian(shape, filler.mean, filler.std, real)
    if filler.sparse >= 0:
        values *= generator().bernoulli(shape, filler.sparse / shape[0], real)
    return values


def _positive_unitball(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    _need_axis(shape, filler)
    rows = generator().uniform(shape, 0, 1, real).reshape(shape[0], -1)
    # Summed from left to right in ``real``, as in Caffe; NumPy's sum goes pairwise.
    rows /= np.cumsum(rows, axis=1)[:, -1:]
    return rows.reshape(shape)


def _xavier(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    scale = np.sqrt(real(3) / _fan(shape, filler, real))
    return generator().uniform(shape, -scale, scale, real)


def _msra(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    return generator().gaussian(shape, 0, np.sqrt(real(2) / _fan(shape, filler, real)), real)


def _fan(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Any:
    """The n of xavier and msra: inputs per output, outputs per input, or the mean of both.

    The formulas are Caffe's, which takes axis 1 for the inputs even in InnerProduct's weights.
    """
    _need_axis(shape, filler)
    fan_in = count(shape) // shape[0]
    fan_out = count(shape) // shape[1] if len(shape) > 1 else count(shape)
    if filler.variance_norm == caffe_pb2.FillerParameter.AVERAGE:
        return real(fan_in + fan_out) / real(2)
    return real(fan_out if filler.variance_norm == caffe_pb2.FillerParameter.FAN_OUT else fan_in)


def _bilinear(shape: Shape, filler: caffe_pb2.FillerParameter, real: Real) -> Array:
    """Weights with which a Deconvolution of stride ceil(width / 2) interpolates (Caffe's formula)."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"bilinear filler: the blob has shape {shape}; expected 4 axes and a square kernel")
    width = shape[3]
    factor = (width + 1) // 2
    centre = (width - 1) / (2 * factor)
    slope = 1 - np.abs(np.arange(width) / factor - centre)
    return np.broadcast_to(np.outer(slope, slope).astype(real), shape).copy()


def _need_axis(shape: Shape, filler: caffe_pb2.FillerParameter) -> None:
    if not shape:
        raise NetError(f"{filler.type} filler: the blob is a scalar; expected at least 1 axis")


_FILLERS: dict[str, Callable[[Shape, caffe_pb2.FillerParameter, Real], Array]] = {
    "constant": _constant,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "uniform": _uniform,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
