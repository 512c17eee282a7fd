"""CUDA graphs' rules on the CPU: a recording is a tape of operators, and a replay runs the tape on the tensors it has.

As on a GPU, recording runs nothing (what was written is put back, what was made is NaN), no value may be looked at
meanwhile, and a replay reads and writes the places of the recording: numbers from Python stay as they were, and a new
tensor is not seen.  What nothing but the tape still holds may be overwritten by other recordings, as they share memory:
it is NaN again behind each replay.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from caffe_compat import random
from caffe_compat.solver.graphs import EagerRecorder

#: operators that wait for the device, or whose sizes depend on values
HOST_READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")

Call = tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]  # operator, arguments, and what it makes


def tensors_in(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - a storage has no other identity


def own(tensor: Tensor) -> Tensor:
    """The same memory in a tensor of the tape's own, so that it sees when nobody else holds the given one."""
    alias = torch.empty(0, dtype=tensor.dtype)
    return alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


class Tape(TorchDispatchMode):
    """Notes the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.made: dict[int, Tensor] = {}  # by place, in the tape's own tensors
        self.holders: dict[int, list[weakref.ref[Tensor]]] = {}
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # what was written that existed before, and its value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]  # noqa: SLF001 - as PyTorch's own modes do
        # Labels are whole numbers, and checked by the device where there is one (layers/shared/indices.py).
        if name in HOST_READS and any(tensor.is_floating_point() for tensor in tensors_in(args)):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        for argument, value in zip(func._schema.arguments, args, strict=False):  # noqa: SLF001
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tensors_in(value):
                    if place(tensor) not in self.made:
                        self.before.setdefault(place(tensor), (own(tensor), tensor.clone()))
        given = {place(tensor) for tensor in tensors_in((args, kwargs))}
        result = func(*args, **kwargs)
        new = [tensor for tensor in tensors_in(result) if place(tensor) not in given]
        for tensor in new:
            self.made[place(tensor)] = own(tensor)
        for tensor in tensors_in(result):
            if place(tensor) in self.made:
                self.holders.setdefault(place(tensor), []).append(weakref.ref(tensor))
        arguments, keywords = tree_map_only(Tensor, own, (args, kwargs))
        self.calls.append((func, arguments, keywords, [own(tensor) for tensor in new]))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        """As if nothing had run."""
        for tensor, value in self.before.values():
            tensor.copy_(value)
        self.spoil(self.made.values())

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, outputs in self.calls:
            result = tensors_in(func(*args, **kwargs))
            for old, new in zip(outputs, result if outputs else [], strict=True):
                old.copy_(new)
        self.spoil(self.made[key] for key in self.made if all(ref() is None for ref in self.holders[key]))

    @staticmethod
    def spoil(tensors: Any) -> None:
        for tensor in tensors:
            tensor.fill_(torch.nan if tensor.is_floating_point() else 1)


class TapeRecorder(EagerRecorder):
    """Records tapes."""

    static = True

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        tape, stream = Tape(), random.generator().get_state()
        with tape:
            work()
        random.generator().set_state(stream)
        tape.undo()
        return tape.play
