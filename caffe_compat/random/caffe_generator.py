"""Caffe's CPU random stream: MT19937 read through Boost 1.74's distributions, number for number."""

from collections.abc import MutableSequence, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_compat import extension
from caffe_compat.random.plain_engine import PlainCaffeRandom

_REALS = (np.dtype(np.float32), np.dtype(np.float64))


@cache
def engine_type() -> Any:
    """The extension's engine, or its twin where there is none; the same numbers, and the same state."""
    module = extension.load()
    return PlainCaffeRandom if module is None else module.CaffeRandom


class CaffeGenerator:
    """A random stream of its own, seeded like Caffe's (``seed`` modulo 2^32).

    ``dtype`` is the type that Caffe's net computes in, float32 or float64: it decides how many
    32-bit draws a number takes and how it is rounded.  Safe to use from several threads;
    can be copied and pickled, with its position.
    """

    def __init__(self, seed: int) -> None:
        self._engine = engine_type()(seed & 0xFFFFFFFF)

    def raw(self) -> int:
        """One 32-bit draw (Caffe's ``caffe_rng_rand``)."""
        return int(self._engine.raw())

    def raws(self, shape: Sequence[int]) -> npt.NDArray[np.uint32]:
        """As many 32-bit draws as ``shape`` has places, in its order."""
        out = np.empty(tuple(shape), np.uint32)
        self._engine.fill_raw(out)
        return out

    def uniform(
        self, shape: Sequence[int], low: float = 0.0, high: float = 1.0, dtype: npt.DTypeLike = np.float32
    ) -> npt.NDArray[Any]:
        """Uniform numbers, ``low`` and ``high`` included; ValueError when low > high."""
        out = _empty_real(shape, dtype)
        if not low <= high:
            raise ValueError(f"uniform from {low} to {high}: the lower end must not exceed the upper")
        self._engine.fill_uniform(out, low, high)
        return out

    def gaussian(
        self, shape: Sequence[int], mean: float = 0.0, std: float = 1.0, dtype: npt.DTypeLike = np.float32
    ) -> npt.NDArray[Any]:
        """Normal numbers; ValueError unless std > 0, as in Caffe."""
        out = _empty_real(shape, dtype)
        if not std > 0:
            raise ValueError(f"gaussian with std {std}: it must be above 0")
        self._engine.fill_gaussian(out, mean, std)
        return out

    def bernoulli(self, shape: Sequence[int], p: float, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[np.int32]:
        """int32 ones with probability ``p``, else zeros; ValueError unless 0 <= p <= 1.

        ``dtype`` is that of the comparison: dropout's is float64 in any net, a sparse filler's
        is the net's.  No draw is made when p is 0.
        """
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli with p {p}: expected 0 to 1")
        out = np.empty(tuple(shape), np.int32)
        if _real_dtype(dtype) == np.float32:
            self._engine.fill_bernoulli_float(out, p)
        else:
            self._engine.fill_bernoulli_double(out, p)
        return out

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """Reorder a list in place as Caffe's ``shuffle`` does."""
        order = np.arange(len(items), dtype=np.int64)
        self._engine.shuffle(order)
        items[:] = [items[i] for i in order.tolist()]

    def get_state(self) -> bytes:
        """The position in the stream, 2500 bytes."""
        return bytes(self._engine.state())

    def set_state(self, state: bytes) -> None:
        """Continue from a ``get_state``; ValueError when ``state`` is not one."""
        if not self._engine.restore(state):
            raise ValueError(f"{len(state)} bytes that are no state of a CaffeGenerator")

    def __getstate__(self) -> bytes:
        return self.get_state()

    def __setstate__(self, state: bytes) -> None:
        self._engine = engine_type()(0)
        self.set_state(state)


def _real_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    real = np.dtype(dtype)
    if real not in _REALS:
        raise ValueError(f"dtype {real}: Caffe's stream has float32 and float64")
    return real


def _empty_real(shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.empty(tuple(shape), _real_dtype(dtype))
