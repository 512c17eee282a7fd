"""Write ziggurat_tables.h: ``python csrc/random/make_ziggurat.py``.

A ziggurat (Marsaglia and Tsang, Journal of Statistical Software 5(8), 2000) covers the area under a
falling density f, f(0) = 1, with strips of equal area.  Strip i lies between the heights y[i] and
y[i + 1] and is x[i] wide; x[0] is the width that gives the bottom strip, whose tail is cut at x[1],
the area of the others.  Some entries lie so close to the middle of two doubles that extended
precision rounds them wrongly, hence decimal arithmetic, and tables instead of start-up code.
"""

from collections.abc import Callable
from decimal import Decimal, getcontext
from pathlib import Path
from typing import NamedTuple

getcontext().prec = 50
Real = Decimal
PI = Real("3.14159265358979323846264338327950288419716939937511")


class Density(NamedTuple):
    name: str
    strips: int  # as many as Boost has
    value: Callable[[Real], Real]
    inverse: Callable[[Real], Real]
    tail_area: Callable[[Real], Real]
    cut_range: tuple[int, int]


def gaussian_tail(x: Real) -> Real:
    """Integral of exp(-t^2 / 2) from x to infinity, by the series of its complement."""
    term = total = x
    k = 0
    while abs(term) > Real(10) ** -45:
        k += 1
        term *= -x * x / (2 * k)
        total += term / (2 * k + 1)
    return (PI / 2).sqrt() - total


NORMAL = Density("Normal", 128, lambda x: (-x * x / 2).exp(), lambda y: (-2 * y.ln()).sqrt(), gaussian_tail, (3, 4))
EXPONENTIAL = Density("Exponential", 256, lambda x: (-x).exp(), lambda y: -y.ln(), lambda x: (-x).exp(), (7, 8))


def stack(density: Density, cut: Real) -> tuple[Real, list[Real], list[Real]]:
    """Height reached by strips whose lowest is cut at ``cut`` (above 1: the cut is too low), x and y."""
    area = cut * density.value(cut) + density.tail_area(cut)
    x, y = cut, density.value(cut)
    widths, heights = [area / y], [Real(0)]
    for _ in range(density.strips - 2):
        widths.append(x)
        heights.append(y)
        y += area / x
        if y >= 1:
            return Real(2), widths, heights
        x = density.inverse(y)
    return y + area / x, [*widths, x, Real(0)], [*heights, y, Real(1)]


def solve(density: Density) -> tuple[list[Real], list[Real]]:
    """Tables of the ziggurat whose strips end at height 1 (by bisection)."""
    low, high = map(Real, density.cut_range)
    for _ in range(90):
        middle = (low + high) / 2
        if stack(density, middle)[0] > 1:
            low = middle
        else:
            high = middle
    return stack(density, high)[1:]


def format_table(name: str, values: list[Real]) -> str:
    texts = [repr(float(value)) for value in values]
    rows = [", ".join(texts[i : i + 4]) for i in range(0, len(texts), 4)]
    return f"inline constexpr double {name}[{len(values)}] = {{\n    " + ",\n    ".join(rows) + "};\n"


def main() -> None:
    parts = [
        "// Written by make_ziggurat.py, which explains the tables.\n// clang-format off\n"
        "#pragma once\n\nnamespace caffe_compat {\n\n"
    ]
    for density in (NORMAL, EXPONENTIAL):
        widths, heights = solve(density)
        parts += [format_table(f"k{density.name}X", widths), "\n", format_table(f"k{density.name}Y", heights), "\n"]
    parts.append("}  // namespace caffe_compat\n")
    Path(__file__).with_name("ziggurat_tables.h").write_text("".join(parts), encoding="ascii")


if __name__ == "__main__":
    main()
