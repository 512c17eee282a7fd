"""The twin of the extension's ``CaffeRandom`` in NumPy: the same numbers, bit for bit, and the same state.

NumPy has the engine, MT19937; here are Boost 1.74's distributions over it.  Draws are taken in blocks: first all are
read as if each number needed no second attempt, then a walk over the few that do finds which draws belong to them.
"""

import math
import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_compat.random.ziggurat import exponential_tables, normal_tables

Array = npt.NDArray[Any]
Draws = npt.NDArray[np.uint32]
Real = Any  # np.float32 or np.float64: the type that the numbers are made in

WORDS = 624  # of MT19937's state
STATE_BYTES = 4 * (WORDS + 1)  # the words and the position among them, little-endian
_LARGEST_DRAW = 2**32 - 1
_BLOCK = 1 << 20  # draws at once
_SPARE = 4096  # draws beyond the expected ones; many times what the longest chain of attempts takes


class PlainCaffeRandom:
    """A random stream; see ``CaffeGenerator``, which checks the arguments.  Arrays are C-contiguous."""

    def __init__(self, seed: int) -> None:
        self._lock = threading.Lock()
        self._engine = np.random.MT19937()
        state: Any = np.random.RandomState(seed).get_state(legacy=False)  # which seeds as Boost does
        self._engine.state = state

    def raw(self) -> int:
        """One 32-bit draw."""
        with self._lock:
            return int(self._engine.random_raw())

    def fill_raw(self, out: Draws) -> None:
        """A 32-bit draw for each place."""
        with self._lock:
            out[...] = self._engine.random_raw(out.size).reshape(out.shape)

    def fill_uniform(self, out: Array, low: float, high: float) -> None:
        """low <= number <= high."""
        real = out.dtype.type
        end = np.nextafter(real(high), np.finfo(real).max)
        with self._lock:
            self._fill(out, lambda count: self._uniforms(count, real(low), end))

    def fill_gaussian(self, out: Array, mean: float, std: float) -> None:
        """Normal numbers."""
        real = out.dtype.type
        with self._lock:
            self._fill(out, lambda count: self._normals(count, real))
        out *= real(std)
        out += real(mean)

    def fill_bernoulli_float(self, out: npt.NDArray[np.int32], probability: float) -> None:
        """Ones with ``probability``, compared in float32; no draw is made when it is 0."""
        self._fill_bernoulli(out, probability, np.float32)

    def fill_bernoulli_double(self, out: npt.NDArray[np.int32], probability: float) -> None:
        """The same, compared in float64."""
        self._fill_bernoulli(out, probability, np.float64)

    def shuffle(self, items: npt.NDArray[np.int64]) -> None:
        """Reorder in place, from the last place to the first."""
        places = np.arange(len(items) - 1, 0, -1, dtype=np.int64)
        # Equal buckets of the engine's range; a draw behind the last bucket is made again.
        buckets = 2**32 // (places + 1)
        others = np.empty(0, np.int64)
        with self._lock:
            while len(others) < len(places):
                rest = slice(len(others), len(others) + _BLOCK)
                found = self._peek(len(places[rest])).astype(np.int64) // buckets[rest]
                refused = np.flatnonzero(found > places[rest])
                if len(refused):
                    found = found[: refused[0]]
                self._skip(len(found) + bool(len(refused)))
                others = np.concatenate([others, found])
        order = items.tolist()
        for i, j in zip(places.tolist(), others.tolist(), strict=True):
            order[i], order[j] = order[j], order[i]
        items[:] = order

    def state(self) -> bytes:
        """``STATE_BYTES`` bytes, as the extension's."""
        with self._lock:
            state = self._engine.state["state"]
        return bytes(state["key"].astype("<u4").tobytes() + int(state["pos"]).to_bytes(4, "little"))

    def restore(self, state: bytes) -> bool:
        """Continue from a ``state``; False, and no change, when it is none."""
        if len(state) != STATE_BYTES:
            return False
        *words, position = np.frombuffer(state, "<u4").tolist()
        if position > WORDS:
            return False
        with self._lock:
            self._place(np.array(words, np.uint32), position)
        return True

    # -- the engine ---------------------------------------------------------------------

    def _place(self, words: Array, position: int) -> None:
        self._engine.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": position}}

    def _peek(self, count: int) -> Draws:
        """The next draws, which stay where they are."""
        state = self._engine.state
        draws = self._engine.random_raw(count).astype(np.uint32)
        self._engine.state = state
        return draws

    def _skip(self, count: int) -> None:
        self._engine.random_raw(count, output=False)

    @staticmethod
    def _fill(out: Array, make: Callable[[int], Array]) -> None:
        """Call ``make``, which gives at most as many numbers as it is asked for, until ``out`` is full."""
        flat, done = out.reshape(-1), 0
        while done < flat.size:
            values = make(flat.size - done)
            flat[done : done + len(values)] = values
            done += len(values)

    # -- distributions ------------------------------------------------------------------

    def _fill_bernoulli(self, out: npt.NDArray[np.int32], probability: float, real: Real) -> None:
        out[...] = 0
        if real(probability) == 0:
            return
        limit = real(probability) * real(_LARGEST_DRAW)
        draws = np.empty(out.shape, np.uint32)
        self.fill_raw(draws)
        out[...] = draws.astype(real) <= limit

    def _uniforms(self, count: int, low: Any, end: Any) -> Array:
        real = type(end)
        if end / 2 - low / 2 > np.finfo(real).max / 2:  # where end - low would overflow
            twice: Array = real(2) * self._uniforms(count, low / 2, end / 2)
            return twice
        draws = self._peek(min(count, _BLOCK) + _SPARE)
        values = _fraction(draws, real) * (end - low) + low
        places = np.flatnonzero(values < end)[:count]  # one that is rounded to the end is drawn again
        self._skip(int(places[-1]) + 1 if len(places) == count else len(draws))
        result: Array = values[places]
        return result

    def _normals(self, count: int, real: Real) -> Array:
        width = 1 if real is np.float32 else 2  # draws of a first attempt
        draws = self._peek(width * min(count, _BLOCK) + _SPARE)
        attempts = _Attempts(draws, real)
        starts, used = attempts.walk(count)
        self._skip(used)
        result: Array = attempts.values[starts]
        return result


class _Attempts:
    """A normal number from each place of a block of draws, as if one began there.

    Most begin and end with a first attempt, which takes ``width`` draws.  One that is not below the curve for certain
    takes a draw more, and is then kept or given up; the tail and a fraction that is rounded to 1 take any number.
    """

    def __init__(self, draws: Draws, real: Real) -> None:
        xs, _ = normal_tables()
        self.draws, self.real = draws, real
        self.width = 1 if real is np.float32 else 2
        fraction, byte = _fraction_and_byte(draws, real)
        strip = byte >> 1
        x = fraction * xs.astype(real)[strip]
        self.values = np.where(byte & 1, x, -x)
        slow = np.flatnonzero(~(x < xs[strip + 1]))  # compared in float64, as Boost does
        inner = slow[(strip[slow] > 0) & (slow + self.width < len(draws))]
        part = _fraction(draws[inner + self.width], real)
        inner, part = inner[part < 1], part[part < 1]
        kept = _is_below_curve(strip[inner], x[inner], part, real)
        # For each slow place: whether it is kept, given up, or has to be drawn step by step.
        fate = np.full(len(x), _STEP_BY_STEP, np.int8)
        fate[inner] = np.where(kept, _KEPT, _GIVEN_UP)
        self._slow = [slow[slow % self.width == phase].tolist() for phase in range(self.width)]
        self._fate = [fate[places].tolist() for places in self._slow]

    def walk(self, count: int) -> tuple[Array, int]:
        """The places where up to ``count`` numbers begin, in order, and how many draws they take."""
        width, end = self.width, len(self.values)
        begins = np.zeros(end, bool)
        ends: dict[int, int] = {}  # of those that take more than ``width`` draws
        place = found = 0
        while place < end and found < count:
            slow, fates = self._slow[place % width], self._fate[place % width]
            k = bisect_left(slow, place)
            stop = slow[k] if k < len(slow) else end
            begins[place:stop:width] = True
            found += -(-(stop - place) // width)
            place += -(-(stop - place) // width) * width
            if k == len(slow):
                break
            if fates[k] == _STEP_BY_STEP:
                try:
                    self.values[stop], place = _normal_step_by_step(self.draws, stop, self.real)
                except IndexError:  # the block ends first
                    break
            else:
                place = stop + width + 1
                if fates[k] == _GIVEN_UP:
                    continue
            begins[stop] = True
            ends[stop] = place
            found += 1
        starts = np.flatnonzero(begins)[:count]
        if len(starts) == count:
            last = int(starts[-1])
            place = ends.get(last, last + width)
        return starts, place


_KEPT, _GIVEN_UP, _STEP_BY_STEP = range(3)


def _fraction(draws: Draws, real: Real) -> Array:
    """Draws as fractions of 2^32, which float32 may round up to 1."""
    result: Array = draws.astype(real) * real(2**-32)
    return result


def _fraction_and_byte(draws: Draws, real: Real) -> tuple[Array, Array]:
    """From each place on a fraction with a full mantissa, and 8 bits that are independent of it."""
    if real is np.float32:
        return (draws >> 8).astype(real) * real(2**-24), (draws & 0xFF).astype(np.intp)
    bits, more = draws[:-1], draws[1:] & 0x1FFFFFFF
    return ((bits >> 8) * 2**-24 + more) * 2**-29, (bits & 0xFF).astype(np.intp)


def _is_below_curve(strip: Array, x: Array, part: Array, real: Real) -> Array:
    """Whether points of these strips, right of the strip above, lie under exp(-x^2 / 2).

    ``x``: their abscissa; ``part``: their height as a fraction of the strip's.  A chord and a tangent decide most;
    which of them is the upper bound depends on how the curve bends there.
    """
    xs, ys = normal_tables()
    above, below = xs[strip], ys[strip]
    wide, low = above.astype(real), below.astype(real)
    y = low + part * (ys[strip + 1] - below).astype(real)
    above_chord = (above - xs[strip + 1]).astype(real) * part - (wide - x)
    above_tangent = y - (low + (wide - x) * low * wide)
    convex = above >= 1
    certain = np.where(convex, above_tangent, above_chord) < 0
    possible = np.where(convex, above_chord, above_tangent) < 0
    asked = np.flatnonzero(possible & ~certain)
    # The C library's exp, as the extension's; NumPy's own may differ in the last bit.
    density = [math.exp(-value) for value in (x[asked] * x[asked] / 2).tolist()]
    possible[asked] = y[asked] < np.array(density, np.float64).astype(real)
    result: Array = possible
    return result


class _Reader:
    """Draws one after the other; IndexError behind the last."""

    def __init__(self, draws: Draws, place: int, real: Real) -> None:
        self.draws, self.place, self.real = draws, place, real
        self._width = 1 if real is np.float32 else 2

    def unit(self) -> Any:
        """A fraction below 1."""
        while True:
            value = _fraction(self._next(1), self.real)[0]
            if value < 1:
                return value

    def fraction_and_byte(self) -> tuple[Any, int]:
        """A fraction with a full mantissa, and 8 bits."""
        fraction, byte = _fraction_and_byte(self._next(self._width), self.real)
        return fraction[0], int(byte[0])

    def _next(self, count: int) -> Draws:
        if self.place + count > len(self.draws):
            raise IndexError
        self.place += count
        return self.draws[self.place - count : self.place]


def _normal_step_by_step(draws: Draws, place: int, real: Real) -> tuple[Any, int]:
    """The normal number that begins at ``place``, by the definition, and where the next begins."""
    xs, _ = normal_tables()
    read = _Reader(draws, place, real)
    while True:
        fraction, byte = read.fraction_and_byte()
        sign, strip = real(1 if byte & 1 else -1), byte >> 1
        x = fraction * real(xs[strip])
        if x < xs[strip + 1]:
            return x * sign, read.place
        if strip == 0:
            return _normal_tail(read, real) * sign, read.place
        part = read.unit()
        if _is_below_curve(np.array([strip]), np.array([x]), np.array([part]), real)[0]:
            return x * sign, read.place


def _normal_tail(read: _Reader, real: Real) -> Any:
    cut = real(normal_tables()[0][1])
    while True:
        x = _exponential(read, real) / cut
        y = _exponential(read, real)
        if 2 * y > x * x:
            return x + cut


def _exponential(read: _Reader, real: Real) -> Any:
    xs, ys = exponential_tables()
    shift = real(0)
    while True:
        fraction, strip = read.fraction_and_byte()
        x = fraction * real(xs[strip])
        if x < real(xs[strip + 1]):
            return shift + x
        if strip == 0:  # the tail has the shape of the whole
            shift += real(xs[1])
            continue
        part = read.unit()
        y = real(ys[strip]) + part * real(ys[strip + 1] - ys[strip])
        above_chord = real(xs[strip] - xs[strip + 1]) * part - (real(xs[strip]) - x)
        above_tangent = y - (real(ys[strip + 1]) + (real(xs[strip + 1]) - x) * real(ys[strip + 1]))
        # The curve bends one way everywhere: the chord is above it, the tangent below.
        if above_chord < 0 and (above_tangent < 0 or y < real(math.exp(-x))):
            return x + shift
