"""The tables by which normal and exponential numbers are drawn, as Boost has them.

A ziggurat (Marsaglia and Tsang, Journal of Statistical Software 5(8), 2000) covers the area under a falling density f,
f(0) = 1, with strips of equal area.  Strip i lies between the heights y[i] and y[i + 1] and is x[i] wide; x[0] is the
width that gives the bottom strip, whose tail is cut at x[1], the area of the others.

         1 |\\                  y[n]
           |_\\                 strip n - 1
           |__\\_
           |____\\__            strip 1, x[1] wide
           |_______:\\_____     strip 0, and the tail to the right of x[1]
           0       x[1]

csrc/random/make_ziggurat.py finds the cuts and writes the same tables for the extension.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import numpy.typing as npt

_DIGITS = 50  # some entries lie so close to the middle of two doubles that fewer digits round them wrongly
_NORMAL_CUT = Decimal("3.4426198558966521214243204920243935860359290040012")
_EXPONENTIAL_CUT = Decimal("7.697117470131049714044628048685239388070493572617")
_HALF_PI = Decimal("1.57079632679489661923132169163975144209858469968755")

Table = npt.NDArray[np.float64]


@cache
def normal_tables() -> tuple[Table, Table]:
    """x and y of the 128 strips under exp(-x^2 / 2)."""
    with localcontext(prec=_DIGITS):
        return _stack(
            128, _NORMAL_CUT, _normal_tail(_NORMAL_CUT), lambda x: (-x * x / 2).exp(), lambda y: (-2 * y.ln()).sqrt()
        )


@cache
def exponential_tables() -> tuple[Table, Table]:
    """x and y of the 256 strips under exp(-x)."""
    with localcontext(prec=_DIGITS):
        cut = _EXPONENTIAL_CUT
        return _stack(256, cut, (-cut).exp(), lambda x: (-x).exp(), lambda y: -y.ln())


def _normal_tail(x: Decimal) -> Decimal:
    """Integral of exp(-t^2 / 2) from x to infinity, by the series of its complement."""
    term = total = x
    k = 0
    while abs(term) > Decimal(10) ** -45:
        k += 1
        term *= -x * x / (2 * k)
        total += term / (2 * k + 1)
    return _HALF_PI.sqrt() - total


def _stack(
    strips: int,
    cut: Decimal,
    tail_area: Decimal,
    density: Callable[[Decimal], Decimal],
    inverse: Callable[[Decimal], Decimal],
) -> tuple[Table, Table]:
    """The strips from the lowest, which is cut at ``cut``, upwards."""
    x, y = cut, density(cut)
    area = cut * y + tail_area
    widths, heights = [area / y], [Decimal(0)]
    for _ in range(strips - 2):
        widths.append(x)
        heights.append(y)
        y += area / x
        x = inverse(y)
    widths += [x, Decimal(0)]
    heights += [y, Decimal(1)]
    return np.array(widths, np.float64), np.array(heights, np.float64)
