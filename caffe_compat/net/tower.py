"""Fast mode on CUDA: convolutions and what stands between them, from the first to the last without a copy.

A tower is a line of the chains of ``net/chains.py``: Convolution, ReLU, max Pooling and LRN, as in the lower half of
CaffeNet, VGG or NIN.  Inside it blobs are channels_last and the groups of a convolution lie apart (``ops.conv_parts``);
a bias is added by the kernel behind the convolution; the first convolution, of images, runs over blocks of pixels.

Where a tower does not take the tensor at hand, its chains run one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.lrn import LRN
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.shared.geometry import overhang
from caffe_compat.net.chains import DEVICES, DTYPES, Chain, ConvChain, Fused, PoolChain, working_dtype
from caffe_compat.net.graph import Step
from caffe_compat.ops import lrn
from caffe_compat.ops.conv_choice import is_exact
from caffe_compat.ops.conv_parts import conv_parts, finish, first_conv, pool_chain, takes_first_conv
from caffe_compat.ops.parts import MOST_PARTS
from caffe_compat.ops.pool_parts import takes_norm

Unit = Step | Chain

#: channels of a part are a multiple of this, so that kernels move 16 bytes at a time
CHANNELS = 8


@dataclass
class Tower(Fused):
    """Chains, and single Pooling and LRN layers, one behind the other."""

    units: list[Unit]

    def __post_init__(self) -> None:
        self._fitting: dict[tuple[Shape, torch.dtype], bool] = {}

    def apart(self) -> Sequence[Unit]:
        return self.units

    def attempt(self, bottom: Tensor) -> Tensor | None:
        device = bottom.device.type
        if device not in DEVICES or torch.compiler.is_compiling() or is_exact():
            return None
        dtype = working_dtype(bottom)
        return self.compute(bottom, dtype) if self.fits(tuple(bottom.shape), dtype) else None

    def fits(self, shape: Shape, dtype: torch.dtype) -> bool:
        """Whether ``compute`` takes a bottom of this shape."""
        key = shape, dtype
        if key not in self._fitting:
            self._fitting[key] = len(shape) == 4 and dtype in DTYPES and self._sizes_fit(shape, dtype)
        return self._fitting[key]

    def _sizes_fit(self, shape: Shape, dtype: torch.dtype) -> bool:
        for unit in self.units:
            bottom = torch.empty(shape, dtype=dtype, device="meta")
            pooling = _pooling(unit)
            if isinstance(unit, ConvChain) and any(overhang(shape[2:], unit.convolution.window)):
                return False
            if pooling is not None and pooling.max_pool_window(bottom) is None:
                return False
            for step in _steps(unit):
                (shape,) = step.layer.infer_shapes(shape)
        return True

    def compute(self, bottom: Tensor, dtype: torch.dtype) -> Tensor:
        """The last top, (N, C, H, W) of ``dtype`` in channels_last."""
        parts, bias = [bottom], None
        for place, unit in enumerate(self.units):
            following = self.units[place + 1] if place + 1 < len(self.units) else None
            groups = following.convolution.group if isinstance(following, ConvChain) else 1
            if _steps(unit)[0].detach[0]:
                parts = [part.detach() for part in parts]
            pooling = _pooling(unit)
            if isinstance(unit, ConvChain):
                parts, bias = self._convolve(unit, parts, dtype)
                if _pooling(following) is None:
                    parts, bias = _finished(parts, bias, relu=unit.relu, groups=groups), None
            elif pooling is not None:
                window = pooling.max_pool_window(parts[0])
                assert window is not None  # fits() has seen to it
                relu, norm = (unit.relu, unit.lrn) if isinstance(unit, PoolChain) else (False, None)
                if norm is None or takes_norm(norm.local_size, norm.beta):
                    numbers = None if norm is None else _numbers(norm)
                    parts = pool_chain(parts, bias, window, relu=relu, lrn=numbers, groups=groups)
                else:
                    parts = _normed(pool_chain(parts, bias, window, relu=relu, lrn=None, groups=1), norm, groups)
                bias = None
            else:
                parts = _normed(parts, _steps(unit)[0].layer, groups)
        return parts[0]

    def _convolve(self, unit: ConvChain, parts: list[Tensor], dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None]:
        layer = unit.convolution
        weight, bias = layer.blob(0), layer.blob(1) if len(layer.blobs) > 1 else None
        window = layer.window.with_groups(layer.group)
        if unit is self.units[0]:
            (bottom,) = parts
            if takes_first_conv(layer.channels, window) and not bottom.requires_grad:
                return [first_conv(bottom, weight, window, dtype)], bias
            dense = bottom.to(dtype).contiguous(memory_format=torch.channels_last)
            parts = _finished([dense], None, relu=False, groups=layer.group)
        return conv_parts(parts, weight, window), bias


def find_towers(units: Sequence[Unit]) -> list[Step | Fused]:
    """The units of ``find_chains`` in order, with each tower in the place of its first unit."""
    towers: list[Step | Fused] = []
    taken: set[int] = set()
    for place, unit in enumerate(units):
        if id(unit) in taken:
            continue
        line = list(_tower_from(unit, units[place + 1 :])) if _starts(unit) else []
        taken.update(id(one) for one in line)
        towers.append(Tower([step for one in line for step in _steps(one)], line) if line else unit)
    return towers


def _starts(unit: Unit) -> bool:
    return _is_convolution(unit, first=True) and not _is_cut(unit)


def _is_cut(unit: Unit) -> bool:
    """Whether no gradient passes somewhere inside the unit."""
    return any(step.detach[0] for step in _steps(unit)[1:])


def _tower_from(unit: Unit, further: Sequence[Unit]) -> Iterator[Unit]:
    yield unit
    for following in further:
        if _steps(unit)[-1].tops[0] not in [bottom for step in _steps(following) for bottom in step.bottoms]:
            continue
        joins = _is_convolution(following) or _pooling(following) is not None or _is_lrn(following)
        if not joins or _is_cut(following):
            return
        yield following
        unit = following


def _is_convolution(unit: Unit, first: bool = False) -> bool:
    """One of which a tower can have parts; the first one of a tower may have the three channels of images."""
    if not isinstance(unit, ConvChain):
        return False
    layer = unit.convolution
    groups, dense_bottom = layer.group, layer.channels // layer.group % CHANNELS == 0
    outputs = layer.num_output // groups % CHANNELS == 0
    return groups <= MOST_PARTS and outputs and (dense_bottom or (first and groups == 1))


def _pooling(unit: Unit | None) -> Pooling | None:
    """The max pooling that a chain or a single layer is."""
    if isinstance(unit, PoolChain):
        return unit.pooling
    layer = unit.layer if isinstance(unit, Step) else None
    if isinstance(layer, Pooling) and layer.method == "MAX" and layer.engine != "CUDNN" and layer.num_tops == 1:
        return layer
    return None


def _is_lrn(unit: Unit) -> bool:
    layer = unit.layer if isinstance(unit, Step) else None
    return isinstance(layer, LRN) and layer.norm_region == "ACROSS_CHANNELS" and layer.engine != "CUDNN"


def _numbers(layer: LRN) -> dict[str, Any]:
    return {"local_size": layer.local_size, "alpha": layer.alpha, "beta": layer.beta, "k": layer.k}


def _normed(parts: list[Tensor], layer: Layer, groups: int) -> list[Tensor]:
    (part,) = parts
    assert isinstance(layer, LRN)
    return _finished([lrn(part, **_numbers(layer))], None, relu=False, groups=groups)


def _steps(unit: Unit) -> list[Step]:
    return unit.steps if isinstance(unit, Chain) else [unit]


def _finished(parts: list[Tensor], bias: Tensor | None, *, relu: bool, groups: int) -> list[Tensor]:
    nothing_to_do = bias is None and not relu and len(parts) == groups
    return parts if nothing_to_do else finish(parts, bias, relu=relu, groups=groups)
