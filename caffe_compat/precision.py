"""How float32 matrix products are computed on CUDA: accurately, unless somebody asks for speed."""

import logging

import torch

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


def autocast(device: torch.device) -> torch.autocast:
    """The context for a forward pass: bfloat16 where that was chosen, else none."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision() == "bf16")


def precision() -> str:
    """The chosen precision; makes ``fp32`` effective when nobody has chosen."""
    if _chosen is None:
        set_precision("fp32")
    assert _chosen is not None
    return _chosen
