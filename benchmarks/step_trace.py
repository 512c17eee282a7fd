"""What a training step on CUDA moves and computes, counted from its operators on tensors without memory.

No GPU is needed: a net on PyTorch's ``meta`` device runs as it would on CUDA (``net/tower.py``), and every operator is
seen with the sizes and layouts of what it reads and writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from caffe_compat import Net
from caffe_compat.ops.rounded import RoundedCopies

aten = torch.ops.aten
#: operators that bring values into another layout, or another place
COPIES = ("aten.copy_.default", "aten.clone.default", "aten.cat.default", "aten.constant_pad_nd.default")
CASTS = ("aten._to_copy.default",)
#: of whose products PyTorch's counter does not know: (bias, a, b), too
COUNTED_AS = {"_addmm_activation": "addmm"}
UNINITIALISED = ("empty", "empty_like", "empty_strided", "new_empty")


@dataclass
class Operation:
    """One operator's run."""

    name: str
    read: int  # bytes
    written: int
    flops: int
    tf32: bool  # whether float32 products may be TF32
    shapes: list[tuple[int, ...]]  # of the tensors read

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.read + self.written


class StepTrace(TorchDispatchMode):
    """Collects ``operations`` in its block; views and empty tensors are left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        if func in (aten.convolution.default, aten.convolution_backward.default):
            results = as_cudnn_lays_out(args, results)
        inputs, outputs = tensors((args, kwargs)), tensors(results)
        makes = [t for t in outputs if not any(is_same_memory(t, source) for source in inputs)]
        namespace, name, _ = str(func).split(".")
        in_place = name.endswith("_")
        if (makes or in_place) and name not in UNINITIALISED:
            count = flop_registry.get(getattr(getattr(torch.ops, namespace), COUNTED_AS.get(name, name)))
            flops = count(*args, **kwargs, out_val=results) if count else 0
            written = sum(map(size, outputs if in_place else makes))
            cudnn: Any = torch.backends.cudnn  # whose attributes are made at run time
            tf32 = cudnn.conv.fp32_precision == "tf32"
            shapes = [tuple(t.shape) for t in inputs]
            self.operations.append(Operation(str(func), sum(map(size, inputs)), written, flops, tf32, shapes))
        return results


def as_cudnn_lays_out(arguments: Any, results: Any) -> Any:
    """On the meta device a convolution's results are contiguous; cuDNN's are channels_last where its input is."""
    if not arguments[1].is_contiguous(memory_format=torch.channels_last):
        return results
    return tree_map_only(Tensor, lambda t: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t, results)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors among arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def is_same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether ``a`` is a view of ``b``."""
    first, second = (StorageWeakRef(t.untyped_storage()) for t in (a, b))
    return bool(first.cdata == second.cdata)


def size(tensor: Tensor) -> int:
    """Bytes of the values."""
    return tensor.numel() * tensor.element_size()


def without_memory(net: Net) -> Net:
    """``net`` itself, in fast mode, with parameters on the meta device in the layout of fast mode."""
    for module in net.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
            empty = torch.empty(value.shape, device="meta", memory_format=layout)
            module.register_parameter(name, nn.Parameter(empty, requires_grad=value.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer.to("meta"))
    net.fast = True
    return net


def trace_step(net: Net, dtype: torch.dtype) -> list[Operation]:
    """The operators of a forward and backward pass with products of ``dtype``; ``net`` has lost its values afterwards.

    The parameters are float32; their copies in bfloat16, which the update writes, are there before the pass begins.
    """
    inputs = {name: torch.empty(net.blob_shapes[name], device="meta") for name in ("data", "label")}
    without_memory(net)
    copies = RoundedCopies()

    def run_pass() -> None:
        with tower_dtype(dtype), copies.in_force():
            _, loss = net.forward_with_loss(**inputs)
            loss.backward()

    run_pass()
    net.zero_grad()
    with StepTrace() as trace:
        run_pass()
    operations: list[Operation] = trace.operations
    return operations


@contextmanager
def tower_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What autocast says of CUDA; ``torch.autocast`` itself says nothing where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", dtype == torch.bfloat16)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
