"""Parameters in bfloat16: rounded where they are used, or once for many uses.

With ``precision="bf16"`` products are of bfloat16 numbers while parameters stay float32.  The kernel that updates a
parameter has its new value at hand and can write it in bfloat16, too (``copies`` of ``ops.solver_update_``), so that no
pass has to read it again only to round it.  ``RoundedCopies`` are these copies: always the numbers that rounding gives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_in_force: ContextVar["RoundedCopies | None"] = ContextVar("_in_force", default=None)


def rounded(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """The parameter in ``dtype``, without gradient: one of the copies in force, not to be written to, or a new one."""
    copies = _in_force.get()
    copy = copies.find(parameter, dtype) if copies is not None else None
    return parameter.detach().to(dtype) if copy is None else copy


class RoundedCopies:
    """bfloat16 copies of the float32 parameters that passes ask for, at addresses that stay.

    A copy is used where it surely is its parameter rounded:

    - ``refresh`` before each iteration's passes rounds every parameter anew, unless the caller knows that nothing but
      itself has run since the update that wrote the copies; then only those whose version counter or address has
      changed.  (Writes through ``parameter.data`` leave the counter as it is; hence the caller's word.)
    - A parameter that a pass itself writes to, such as weights that a layer normalizes, has no copy.
    """

    DTYPE = torch.bfloat16

    def __init__(self) -> None:
        #: the copies by parameter; what an update has to write beside it
        self.tensors: dict[Tensor, Tensor] = {}
        #: whether parameters may still be added: not in a recording, which would make the copy's first value its own
        self.open = True
        self._states: dict[Tensor, tuple[int, int]] = {}  # of the parameters, when their copies were right
        self._written: set[Tensor] = set()  # by passes

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """``rounded`` takes its numbers from here in the block, which is one pass."""
        token = _in_force.set(self)
        try:
            yield
        finally:
            _in_force.reset(token)
            for parameter in [p for p in self.tensors if self._has_changed(p)]:
                self._written.add(parameter)
                del self.tensors[parameter], self._states[parameter]

    def find(self, parameter: Tensor, dtype: torch.dtype) -> Tensor | None:
        """The copy, made where this is the parameter's first use; None where it has none."""
        if dtype != self.DTYPE or parameter.dtype != torch.float32 or parameter in self._written:
            return None
        if parameter in self.tensors:
            return None if self._has_changed(parameter) else self.tensors[parameter]
        if not self.open:
            return None
        self.tensors[parameter] = torch.empty_like(parameter, dtype=dtype, requires_grad=False)
        self._round([parameter])
        return self.tensors[parameter]

    def refresh(self, *, undisturbed: bool) -> None:
        """Make every copy right; ``undisturbed``: nothing but the caller has run since ``note_update``."""
        self._round([p for p in self.tensors if not undisturbed or self._has_changed(p)])

    def note_update(self) -> None:
        """An update has just written parameters and copies together."""
        self._states = {parameter: _state(parameter) for parameter in self.tensors}

    def clear(self) -> None:
        """Forget everything: copies at other addresses will do from here on."""
        self.tensors.clear()
        self._states.clear()
        self.open = True

    def _has_changed(self, parameter: Tensor) -> bool:
        return self._states[parameter] != _state(parameter)

    def _round(self, parameters: list[Tensor]) -> None:
        if not parameters:
            return
        with torch.no_grad():
            torch._foreach_copy_([self.tensors[p] for p in parameters], parameters)
        self._states |= {parameter: _state(parameter) for parameter in parameters}


def _state(parameter: Tensor) -> tuple[int, int]:
    return parameter._version, parameter.data_ptr()
