"""How many multiplications and additions a net's passes take, from its shapes alone."""

from collections.abc import Sequence

from caffe_compat.layers.base import Shape
from caffe_compat.net.graph import Step


def forward_flops(step: Step, shapes: Sequence[Shape]) -> int:
    """Of the layer's forward pass; ``shapes``: of all blobs, by number."""
    return step.layer.flops([shapes[i] for i in step.bottoms], [shapes[i] for i in step.tops])


def training_flops(step: Step, shapes: Sequence[Shape]) -> int:
    """Of forward and backward: the gradient of the weights and that of the bottoms take as many as the forward pass,
    each where somebody needs it."""
    gradients = any(step.param_need_backward) + any(step.bottom_need_backward)
    return forward_flops(step, shapes) * (1 + (gradients if step.need_backward else 0))
