"""How float32 matrix products are computed on CUDA: accurately, unless somebody asks for speed."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "tf32", "bf16")
_chosen: str | None = None


def set_precision(name: str) -> None:
    """``fp32``: TF32 off, Caffe's numbers (the default).  ``tf32``: tensor cores, 10-bit mantissas.
    ``bf16``: TF32, and the solver runs its passes under bfloat16 autocast (parameters, updates and
    losses stay float32).

    Process-wide, as PyTorch's own switches are.  Raises ValueError for another name.
    """
    global _chosen
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    _chosen = name
    allow = name != "fp32"
    torch.backends.cudnn.allow_tf32 = allow
    torch.backends.cuda.matmul.allow_tf32 = allow
    log.info("float32 products use %s", "TF32" if allow else "full float32 (TF32 off)")


def autocast(device: torch.device, name: str | None = None) -> torch.autocast:
    """The context for a forward pass in precision ``name`` (None: the chosen one): bfloat16 for ``bf16``, else none.

    Inside, convolutions and inner products take and give bfloat16 (sums in float32) from float32 parameters; pooling,
    LRN and the like keep the type of their blob and compute in float32 (on the CPU, where they have no 16-bit form,
    convolution with groups and LRN stay in float32).
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=(name or precision()) == "bf16")


def keep_losses_in_float32(layers: Iterable[nn.Module]) -> None:
    """Give the loss layers among ``layers`` float32 (or wider) bottoms, whatever autocast made of them."""
    for layer in layers:
        if getattr(layer, "is_loss", False):
            layer.register_forward_pre_hook(_widen)


def _widen(layer: nn.Module, bottoms: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in bottoms)


def precision() -> str:
    """The chosen precision; makes ``fp32`` effective when nobody has chosen."""
    if _chosen is None:
        set_precision("fp32")
    assert _chosen is not None
    return _chosen
