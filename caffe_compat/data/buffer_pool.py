"""Large arrays used again and again: new memory costs as much time as filling it."""

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

Memory = npt.NDArray[np.uint8]

_KEPT = 16  # free pieces of memory; the oldest goes when there are more


class BufferPool:
    """Hands out arrays, and takes their memory back when the last view of it is gone.

    Views, slices and tensors made of an array keep its memory taken.  Safe to use from several threads: an array may be
    taken in one and forgotten in another.  A pool that goes first leaves its arrays as they are.
    """

    def __init__(self) -> None:
        self._free: deque[Memory] = deque(maxlen=_KEPT)  # its append and pop are atomic: no lock is needed

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A C-contiguous array of undefined content that nobody else holds."""
        memory = self._free_memory(math.prod(shape) * np.dtype(dtype).itemsize)
        # All views of ``root`` refer to it, and it alone to the memory: NumPy passes on the owner of a view's memory as
        # long as that is an array, and ``root`` is made of a memoryview.
        root = np.frombuffer(memory.data, dtype)
        end = weakref.finalize(root, _give_back, weakref.ref(self._free), memory)
        end.atexit = False
        return root.reshape(shape)

    def _free_memory(self, size_bytes: int) -> Memory:
        """Memory of this size; free memory of another size is let go, as batches keep their size."""
        while True:
            try:
                memory = self._free.pop()
            except IndexError:
                return np.empty(size_bytes, np.uint8)
            if memory.nbytes == size_bytes:
                return memory

    def __reduce__(self) -> tuple[type["BufferPool"], tuple[()]]:
        return BufferPool, ()


def _give_back(free: "weakref.ref[deque[Memory]]", memory: Memory) -> None:
    pieces = free()
    if pieces is not None:
        pieces.append(memory)
