"""Fast mode: chains of layers that run as one operator, with the outputs of the layer-by-layer mode.

    chain                                                        operator
    [ReLU] Pooling (MAX) [ReLU] [LRN (ACROSS_CHANNELS)]          ops.max_pool, ops.relu_pool_lrn
    Convolution [ReLU, unless max pooling follows]               ops.fast_conv on the CPU, ops.conv on a tuned GPU
    InnerProduct [ReLU] [Dropout]                                ops.linear on the CPU, linear_chain on CUDA

A chain is found by the layers' types and fields (``Chain.find``; ``CHAINS`` lists the classes).  Whether its operator
takes the tensor at hand is asked at each run.  Where it does not, and where a layer in the chain has hooks, its layers
run one by one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.convolution_depthwise import ConvolutionDepthwise
from caffe_compat.layers.depthwise_convolution import DepthwiseConvolution
from caffe_compat.layers.dropout import Dropout
from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.layers.lrn import LRN
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.relu import ReLU
from caffe_compat.layers.shared.geometry import overhang
from caffe_compat.net.graph import Step
from caffe_compat.ops import conv, fast_conv, linear, max_pool, relu_pool_lrn
from caffe_compat.ops.conv_choice import is_exact, is_tuned
from caffe_compat.ops.linear_chain import linear_chain

#: where chains and towers take operators made for CUDA; tensors without memory run as there, so that a step can be
#: looked at where there is no GPU
DEVICES = ("cuda", "meta")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Fused(ABC):
    """Steps that run as one, of which each reads only what the one before it writes."""

    steps: list[Step]

    @property
    def hidden(self) -> set[int]:
        """Blobs that running as one does not make."""
        return {step.tops[0] for step in self.steps[:-1]} - {self.steps[-1].tops[0]}

    def run(self, values: dict[int, Tensor]) -> None:
        """Like ``Step.run``, for all steps at once, or where that cannot be, one after the other."""
        first = self.steps[0]
        bottom, top = values[first.bottoms[0]], None
        if not any(step.layer.has_hooks() for step in self.steps):
            try:
                top = self.attempt(bottom)
            except (MemoryError, RuntimeError) as error:
                first.fail_without_memory(error, [bottom])
                raise
        if top is not None:
            values[self.steps[-1].tops[0]] = top
            return
        for unit in self.apart():
            unit.run(values)

    @abstractmethod
    def attempt(self, bottom: Tensor) -> Tensor | None:
        """The last top; None where this bottom is not taken."""

    def apart(self) -> "Sequence[Step | Fused]":
        """What does the same, one after the other."""
        return self.steps


@dataclass
class Chain(Fused):
    """Steps with one operator for all of them."""

    def attempt(self, bottom: Tensor) -> Tensor | None:
        # Parameters come first in a chain.  Where a later layer cuts off the gradient, they get none either.
        cut = any(step.detach[0] for step in self.steps[1:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not cut):
            return self.operate(bottom.detach() if self.steps[0].detach[0] else bottom)

    @classmethod
    @abstractmethod
    def find(cls, line: Sequence[Step]) -> Self | None:
        """The chain of this kind with which ``line`` begins; None where there is none.

        Each step of a line reads only what the one before it writes.
        """

    @abstractmethod
    def operate(self, bottom: Tensor) -> Tensor | None:
        """The last top; None where the operator does not take this bottom."""


@dataclass
class PoolChain(Chain):
    """MAX pooling with ReLU before or behind it (the same: both only compare), then LRN."""

    pooling: Pooling
    relu: bool
    lrn: LRN | None

    @classmethod
    def find(cls, line: Sequence[Step]) -> Self | None:
        """Pooling alone gains nothing: at least one of the others must be there."""
        layers: list[Layer | None] = [*(step.layer for step in line), None, None, None]  # room to look ahead
        before = _is_relu(layers[0])
        pooling = layers[before]
        if not isinstance(pooling, Pooling) or pooling.method != "MAX" or pooling.engine == "CUDNN":
            return None
        behind = not before and _is_relu(layers[1])
        count = 1 + before + behind
        lrn = layers[count]
        if not (isinstance(lrn, LRN) and lrn.norm_region == "ACROSS_CHANNELS" and lrn.engine != "CUDNN"):
            lrn = None
        count += lrn is not None
        return cls(list(line[:count]), pooling, before or behind, lrn) if count > 1 else None

    def operate(self, bottom: Tensor) -> Tensor | None:
        window = self.pooling.max_pool_window(bottom)
        if window is None:
            return None
        if self.lrn is None:
            return max_pool(bottom, *window, relu=self.relu)
        lrn = self.lrn
        return relu_pool_lrn(
            bottom,
            *window,
            relu=self.relu,
            local_size=lrn.local_size,
            alpha=lrn.alpha,
            beta=lrn.beta,
            k=lrn.k,
        )


@dataclass
class ConvChain(Chain):
    """Convolution, and ReLU."""

    convolution: Convolution
    relu: bool

    @classmethod
    def find(cls, line: Sequence[Step]) -> Self | None:
        """ReLU is left to a chain with max pooling where one follows."""
        convolution = line[0].layer if line else None
        # Deconvolution is a Convolution too, and a user's class may do something else.
        if type(convolution) not in (Convolution, DepthwiseConvolution, ConvolutionDepthwise):
            return None
        assert isinstance(convolution, Convolution)
        if convolution.axis != 1 or convolution.spatial_axes != 2:
            return None
        if convolution.engine != "DEFAULT":
            return None
        relu = len(line) > 1 and _is_relu(line[1].layer) and not PoolChain.find(line[1:])
        return cls(list(line[: 1 + relu]), convolution, relu)

    def operate(self, bottom: Tensor) -> Tensor | None:
        layer = self.convolution
        if bottom.dim() != 4 or any(overhang(bottom.shape[2:], layer.window)):
            return None
        window = layer.window.with_groups(layer.group)
        bias = layer.blob(1) if len(layer.blobs) > 1 else None
        if bottom.is_cuda:
            if not is_tuned(bottom.device):
                return None
            return conv(bottom, layer.blob(0), bias, **window.keywords(), relu=self.relu)
        if bottom.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return None
        if 1 < layer.group == layer.channels and not torch.is_grad_enabled():
            return None  # one filter a channel: PyTorch's own forward is the faster one
        return fast_conv(bottom, layer.blob(0), bias, **window.keywords(), relu=self.relu)


@dataclass
class LinearChain(Chain):
    """InnerProduct over all axes but the first, ReLU, and Dropout."""

    product: InnerProduct
    relu: bool
    dropout: Dropout | None

    @classmethod
    def find(cls, line: Sequence[Step]) -> Self | None:
        product = line[0].layer if line else None
        if not isinstance(product, InnerProduct) or product.axis != 1 or product.is_given:
            return None
        if product.transpose or product.normalize:
            return None
        layers: list[Layer | None] = [*(step.layer for step in line), None, None]  # room to look ahead
        relu = _is_relu(layers[1])
        dropout = layers[1 + relu]
        if type(dropout) is not Dropout or not dropout.scale_train or dropout.drops_in_test:
            dropout = None
        return cls(list(line[: 1 + relu + (dropout is not None)]), product, relu, dropout)

    def operate(self, bottom: Tensor) -> Tensor | None:
        layer = self.product
        bias = layer.blob(1) if len(layer.blobs) > 1 else None
        rows = bottom.flatten(1)
        if bottom.device.type in DEVICES and not (torch.compiler.is_compiling() or is_exact()):
            dtype = working_dtype(bottom)
            if dtype in DTYPES:
                dropout = self.dropout.ratio if self.dropout is not None and self.dropout.training else 0.0
                return linear_chain(rows, layer.blob(0), bias, dtype=dtype, relu=self.relu, dropout=dropout)
        top = linear(rows, layer.blob(0), bias, self.relu)
        return top if self.dropout is None else self.dropout.forward(top)


def working_dtype(bottom: Tensor) -> torch.dtype:
    """That of products with ``bottom``, of which autocast has a say; without memory it is as on CUDA."""
    device = "cpu" if bottom.device.type == "cpu" else "cuda"
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else bottom.dtype


#: in the order in which they are looked for
CHAINS: tuple[type[Chain], ...] = (PoolChain, ConvChain, LinearChain)


def find_chains(steps: Sequence[Step]) -> list[Step | Chain]:
    """The ``steps`` of a net in order, with each chain in the place of its first step."""
    units: list[Step | Chain] = []
    taken: set[int] = set()
    for place, step in enumerate(steps):
        if id(step) in taken:
            continue
        line = _line_from(place, steps)
        chain = next((found for kind in CHAINS if (found := kind.find(line))), None)
        units.append(chain or step)
        taken.update(id(s) for s in (chain.steps if chain else [step]))
    return units


def _line_from(place: int, steps: Sequence[Step]) -> list[Step]:
    """The step at ``place`` and what follows it as long as one blob alone leads from each step to the next."""
    line: list[Step] = []
    for step in steps[place:]:
        # Split layers see to it that a top has one reader.
        if line and line[-1].tops[0] not in step.bottoms:
            continue
        if len(step.bottoms) != 1 or len(step.tops) != 1 or any(step.loss_weights):
            break
        line.append(step)
    return line


def _is_relu(layer: Layer | None) -> bool:
    return isinstance(layer, ReLU) and layer.negative_slope == 0 and layer.engine != "CUDNN"
