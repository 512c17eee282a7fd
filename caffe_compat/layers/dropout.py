"""Dropout: in training, zero each value with probability ``dropout_ratio`` and scale up the rest."""

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import generator, is_seeded

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


# Not by ``custom_op``, which imports PyTorch's compiler at an operator's first call: a second and a half.
_MASK = "caffe_compat::dropout_mask"
torch.library.define(
    _MASK,
    "(Tensor bottom, float keep_probability, SymInt layer) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


@torch.library.impl(_MASK, "CPU")
def dropout_mask(bottom: Tensor, keep_probability: float, layer: int) -> Tensor:
    """Ones and zeros of the shape and dtype of ``bottom`` (CPU), from Caffe's random stream.

    An operator, so that a compiled graph draws anew on each run.  ``layer`` keeps the compiler
    from merging the draws of two layers that have one bottom.
    """
    mask = generator().bernoulli(tuple(bottom.shape), keep_probability)
    return torch.from_numpy(mask).to(bottom.dtype)


def _mask_fake(bottom: Tensor, keep_probability: float, layer: int) -> Tensor:
    return torch.empty(bottom.shape, dtype=bottom.dtype, device=bottom.device)


torch.library.register_fake(_MASK, _mask_fake)


#: each layer that draws has a number of its own
layer_numbers = itertools.count(1)


def draw_mask(bottom: Tensor, ratio: float, layer: int) -> Tensor:
    """Ones with probability 1 - ``ratio``, else zeros, of the shape and dtype of ``bottom``: Caffe's on the CPU after
    ``random.set_seed``, PyTorch's elsewhere.  ``layer``: its number."""
    if is_seeded() and bottom.device.type == "cpu":
        mask: Tensor = torch.ops.caffe_compat.dropout_mask(bottom.detach(), 1.0 - ratio, layer)
        return mask
    return (functional.dropout(torch.ones_like(bottom), ratio) > 0).to(bottom.dtype)


@register("Dropout")
class Dropout(Layer):
    """Bottom of any shape -> top of the same shape; the identity in TEST nets and after ``.eval()``.

    On the CPU after ``random.set_seed`` the mask is Caffe's; otherwise PyTorch's generators
    make it (Caffe uses cuRAND on the GPU).  ``scale_train: false`` (Fast R-CNN): nothing is scaled up in training,
    all is multiplied by 1 - ``dropout_ratio`` in TEST.  ``sample_weights_test`` (SegNet): drops in TEST, too.
    """

    param_fields = ("dropout_param",)
    fork_fields = ("dropout_param.scale_train", "dropout_param.sample_weights_test")
    keeps_forward = True
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= ratio < 1:
            self.fail(f"dropout_param.dropout_ratio is {ratio}; expected at least 0 and below 1")
        self.ratio = float(ratio)
        self.scale_train = bool(self.param.dropout_param.scale_train)
        self.drops_in_test = bool(self.param.dropout_param.sample_weights_test)
        self._number = next(layer_numbers)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        if not (self.training or self.drops_in_test):
            return bottom.view_as(bottom) if self.scale_train else bottom * (1.0 - self.ratio)
        if self.scale_train and not (is_seeded() and bottom.device.type == "cpu"):
            return functional.dropout(bottom, self.ratio)
        top = bottom * draw_mask(bottom, self.ratio, self._number)
        return top * (1.0 / (1.0 - self.ratio)) if self.scale_train else top

    def is_identity(self) -> bool:
        return not self.training and self.scale_train and not self.drops_in_test

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.training:
            self.fail("Dropout in training has no ONNX form; use the TEST phase")
        if self.drops_in_test:
            self.fail("dropout_param.sample_weights_test, which draws at random, has no ONNX form; remove it")
        return [graph.scale(step.bottoms[0], 1.0 if self.scale_train else 1.0 - self.ratio)]

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        return [f"ratio {param.dropout_param.dropout_ratio:g}"]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"dropout_ratio: {dice.number(0.1, 0.9)} scale_train: {dice.switch()}"
        return Example(f"phase: TEST dropout_param {{ {fields} }}", [dice.normal(*dice.shape())])
