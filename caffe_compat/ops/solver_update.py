"""One solver update of many parameters, in one call and one pass over the memory.

The slow twin of each rule is the ``compute_update`` of its class in ``caffe_compat/solver/rules`` (with the steps
around it in ``rules/base.py``), which runs where there is no kernel; so there is no ``reference`` here.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from caffe_compat import extension


def has_solver_update() -> bool:
    """Whether the operator is there."""
    return extension.load() is not None


@dataclass
class UpdateTensors:
    """What one call updates: an entry of each list for each parameter, all on one device and of one dtype.

    ``params``, ``grads``, ``first``, ``second`` (the histories; no ``second`` for rules that keep one): float32 or
    float64, the four of a parameter of one shape.  ``rates``: the learning rate, a float64 tensor of one number on the
    device.
    ``copies``: none, or for each parameter a bfloat16 tensor of its shape and strides that gets the new value, or an
    empty tensor where none is wanted.
    ``lr_mults`` multiply the rate; ``decays`` are weight_decay * decay_mult.
    """

    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)
    rates: list[Tensor] = field(default_factory=list)
    lr_mults: list[float] = field(default_factory=list)
    decays: list[float] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)


def solver_update_(
    rule: str,
    tensors: UpdateTensors,
    *,
    clip: Tensor | None = None,
    gradient_scale: float = 1.0,
    l1: bool = False,
    momentum: float = 0.0,
    momentum2: float = 0.0,
    delta: float = 0.0,
    keep_update: bool = False,
) -> None:
    """Update parameters and histories in place; uses up the gradients.

    For each parameter w: g = grad * clip * gradient_scale + decay * w (``l1``: decay * sign(w)); the rule turns g and
    the histories into u, with the rate rate * lr_mult inside; w -= u.  ``keep_update`` leaves u in the gradient.
    ``clip``: one number on the device, of the parameters' dtype.  ``momentum`` is RMSProp's rms_decay, too.

    Raises ValueError or TypeError for an unknown rule and for lists, shapes, dtypes or devices that do not fit.
    Source: Caffe's solvers (``src/caffe/solvers/*.cpp``).
    """
    torch.ops.caffe_compat.solver_update_(
        rule,
        tensors.params,
        tensors.grads,
        tensors.first,
        tensors.second,
        tensors.rates,
        tensors.lr_mults,
        tensors.decays,
        clip,
        gradient_scale,
        l1,
        momentum,
        momentum2,
        delta,
        keep_update,
        tensors.copies,
    )
    # The operator writes behind autograd's back; a backward pass through the old values must be refused.
    torch.autograd.graph.increment_version(tensors.params)
