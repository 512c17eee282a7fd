"""Normalize: divide by a norm.  Two forks have a layer of this name; their fields tell them apart."""

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# What NormFace adds to a sum of squares, or of absolute values, on the CPU.
NORMFACE_EPS = 1e-6

SSD = ("across_spatial", "scale_filler", "channel_shared", "eps", "fix_scale")
NORMFACE = ("normalize_type", "fix_gradient", "bp_norm")


def _is_set(param: caffe_pb2.NormalizeParameter, field: str) -> bool:
    return any(descriptor.name == field for descriptor, _ in param.ListFields())


@register("Normalize")
class Normalize(Layer):
    """Bottom (N, C, ...) -> top of its shape: x / norm.

    SSD's, with ``norm_param``: the L2 norm sqrt(sum x^2 + eps) over each item (``across_spatial``) or over the channels
    at each location, then a learned scale, blob () (``channel_shared``) or (C,); ``fix_scale``: not learned (ParseNet).

    NormFace's, with its own fields or none: the L2 or L1 norm (``normalize_type``) over the channels at each location,
    no blob; a second top (N, 1, ...) is the norm, which has a gradient with ``bp_norm`` only.  Its early files give the
    type in ``softmax_param``.
    """

    param_fields = ("norm_param", "normalize_param", "softmax_param")
    fork_fields = ("softmax_param.normalize_type",)
    top_count = (1, 2)
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        if len(bottom) < 2:
            self.fail(f"bottom has shape {bottom}; expected at least 2 axes (N, C)")
        early = self._early_type()
        name = "norm_param" if self.param.HasField("norm_param") else "normalize_param"
        param = getattr(self.param, name)
        ssd, normface = ([field for field in fields if _is_set(param, field)] for fields in (SSD, NORMFACE))
        if (ssd and normface) or (self.param.HasField("norm_param") and self.param.HasField("normalize_param")):
            self.fail(
                f"norm_param and normalize_param have fields of two layers: SSD's has {', '.join(SSD)}, NormFace's "
                f"{', '.join(NORMFACE)}; keep those of one, in one of them"
            )
        if early and (ssd or self.param.HasField("norm_param")):
            self.fail("softmax_param.normalize_type is of NormFace's layer, norm_param of SSD's; expected one of them")
        self.is_ssd = bool(ssd) or (name == "norm_param" and self.param.HasField(name) and not normface)
        if self.is_ssd:
            self._setup_ssd(param, bottom)
        else:
            self._setup_normface(param)

    def _early_type(self) -> bool:
        """Whether the type stands in softmax_param.  NormFace's later code does not look there and takes L2, so that
        another type there means two things."""
        refuse_fields(
            self, "softmax_param", "axis", "engine", "hard_ratio", "class_weight", because="it is of Softmax; remove it"
        )
        early = str(self.param.softmax_param.normalize_type)
        given = self.param.softmax_param.HasField("normalize_type")
        if given and early != "L2":
            self.fail(
                f'softmax_param.normalize_type is "{early}", and NormFace\'s later code takes L2 without a look there; '
                f'expected L2, or normalize_param {{ normalize_type: "{early}" }}'
            )
        return given

    def _setup_ssd(self, param: caffe_pb2.NormalizeParameter, bottom: Shape) -> None:
        if self.num_tops > 1:
            self.fail("has 2 tops; expected 1, as the norm is a top of NormFace's Normalize only (normalize_type)")
        self.eps, self.across_spatial = float(param.eps), bool(param.across_spatial)
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = param.scale_filler if param.HasField("scale_filler") else one
        fixed = param.HasField("fix_scale") and param.fix_scale
        shape = () if param.channel_shared else (bottom[1],)
        self.add_blob("scale", shape, lambda tensor: fill(tensor, filler), trainable=not fixed)

    def _setup_normface(self, param: caffe_pb2.NormalizeParameter) -> None:
        self.order = str(param.normalize_type)
        if self.order not in ("L2", "L1"):
            self.fail(f'normalize_type is "{self.order}"; expected L2 or L1')
        if param.fix_gradient and self.phase == "TRAIN":
            self.fail("fix_gradient is not supported in training; remove it for the true gradient")
        self.norm_has_gradient = bool(param.bp_norm)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        scale = self.blob_shapes[0] if self.blob_shapes else ()
        if len(bottom) < 2 or (scale and bottom[1] != scale[0]):
            self.fail(f"bottom has shape {bottom}; expected (N, C, ...) with the channels that the net was built with")
        norm = (bottom[0], 1, *bottom[2:])
        return [bottom, norm] if self.num_tops > 1 else [bottom]

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self._forward_ssd(bottom) if self.is_ssd else self._forward_normface(bottom)

    def _forward_ssd(self, bottom: Tensor) -> Tensor:
        axes = tuple(range(1, bottom.dim())) if self.across_spatial else (1,)
        norm = (bottom.square().sum(axes, keepdim=True) + self.eps).sqrt()
        return bottom / norm * self._aligned_scale(self.blob(0), bottom.dim())

    @staticmethod
    def _aligned_scale(scale: Tensor, axes: int) -> Tensor:
        return scale.view(-1, *(1,) * (axes - 2)) if scale.dim() else scale

    def _forward_normface(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.order == "L2":
            norm = (bottom.square().sum(1, keepdim=True) + NORMFACE_EPS).sqrt()
        else:
            norm = bottom.abs().sum(1, keepdim=True) + NORMFACE_EPS
        if self.num_tops == 1:
            return bottom / norm
        return bottom / norm, (norm if self.norm_has_gradient else norm.detach())

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        value, shape = step.bottoms[0], step.bottom_shapes[0]
        if self.is_ssd:
            axes = range(1, len(shape)) if self.across_spatial else [1]
            squares = graph.add("ReduceSum", graph.add("Mul", value, value), graph.sizes(list(axes)), keepdims=1)
            top = graph.add("Div", value, graph.add("Sqrt", graph.shift(squares, self.eps)))
            scale = self._aligned_scale(self.blob(0).detach().cpu(), len(shape))
            return [graph.add("Mul", top, graph.constant(scale.numpy()))]
        terms = graph.add("Mul", value, value) if self.order == "L2" else graph.add("Abs", value)
        total = graph.shift(graph.add("ReduceSum", terms, graph.sizes([1]), keepdims=1), NORMFACE_EPS)
        norm = graph.add("Sqrt", total) if self.order == "L2" else total
        return [graph.add("Div", value, norm), norm][: self.num_tops]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape(2, 4)
        # A single value over its own norm is its sign, whose gradient is rounding only.
        shape = shape if count(shape, 1) > 1 else (shape[0], 3, *shape[2:])
        if dice.integer(0, 1):
            order = dice.pick("L1", "L2")
            tops = dice.integer(1, 2)
            fields = f'normalize_param {{ normalize_type: "{order}" bp_norm: {dice.switch()} }}'
            return Example(fields, [dice.normal(shape[0], 3, *shape[2:])], tops=tops)
        fields = f"across_spatial: {dice.switch()} channel_shared: {dice.switch()} eps: 0.01"
        return Example(f"norm_param {{ {fields} }}", [dice.normal(*shape)])
