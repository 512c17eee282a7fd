"""How float32 products are computed on CUDA: accurately, unless somebody asks for speed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PRECISIONS = ("fp32", "tf32", "bf16")
_current = "fp32"


def precision() -> str:
    """The precision in force: that of the innermost ``use_precision``, ``fp32`` outside."""
    return _current


def check_precision(name: str) -> str:
    """``name``; ValueError where it is none of ``PRECISIONS``."""
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    return name


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Compute in this precision inside the block, forward and backward.

    ``fp32``: TF32 off, Caffe's numbers.  ``tf32``: tensor cores, 10-bit mantissas.  ``bf16``: TF32, and a solver runs
    its passes under bfloat16 autocast (parameters, updates and losses stay float32).

    PyTorch's own switches (``torch.backends``) follow for as long as the block lasts, and are put back behind it; as
    they are one for the process, so is this.  Outside of any block the package's convolutions are ``fp32`` whatever the
    switches say; matrix products follow the switches, which PyTorch leaves off.  A backward pass computes in the
    precision in force when it runs.  Under torch.compile the switches alone count.

    Raises ValueError for another name.
    """
    global _current
    before, _current = _current, check_precision(name)
    try:
        with switched(tf32=name != "fp32"):
            yield
    finally:
        _current = before


@contextmanager
def switched(tf32: bool) -> Iterator[None]:
    """PyTorch's switches for float32 convolutions and matrix products on CUDA, set for the block and put back."""
    import torch

    cudnn: Any = torch.backends.cudnn  # whose attributes are made at run time
    matmul: Any = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, matmul.fp32_precision
    wanted = "tf32" if tf32 else "ieee"
    if before == (wanted,) * 3:
        yield
        return
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = matmul.fp32_precision = wanted
    try:
        yield
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, matmul.fp32_precision = before


def autocast(device: "torch.device", name: str | None = None) -> "torch.autocast":
    """The context for a forward pass in precision ``name`` (None: that in force): bfloat16 for ``bf16``, else none.

    Inside, convolutions and inner products take and give bfloat16 (sums in float32) from float32 parameters; pooling,
    LRN and the like keep the type of their blob and compute in float32 (on the CPU, where they have no 16-bit form,
    convolution with groups and LRN stay in float32).
    """
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=(name or precision()) == "bf16")


def keep_losses_in_float32(layers: Iterable["nn.Module"]) -> None:
    """Give the loss layers among ``layers`` float32 (or wider) bottoms, whatever autocast made of them."""
    for layer in layers:
        if getattr(layer, "is_loss", False):
            layer.register_forward_pre_hook(_widen)


def _widen(layer: "nn.Module", bottoms: tuple[Any, ...]) -> "tuple[Tensor, ...]":
    import torch

    return tuple(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in bottoms)
