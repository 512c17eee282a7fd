"""A dict whose arrays are made when somebody looks."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from caffe_compat.pycaffe.arrays import Arrays


@pytest.mark.parametrize(
    ("look", "made"),
    [
        (lambda a: list(a), ""),
        (lambda a: "x" in a and len(a), ""),
        (lambda a: a["x"], "x"),
        (lambda a: a.get("x"), "x"),
        (lambda a: a.get("z", 5), ""),
        (lambda a: list(a.values()), "xy"),
        (lambda a: list(a.items()), "xy"),
        (lambda a: dict(a), "xy"),
        (lambda a: dict(**a), "xy"),
        (lambda a: a.copy(), "xy"),
        (lambda a: repr(a), "xy"),
        (lambda a: a.pop("x"), "xy"),
    ],
)
def test_an_array_is_made_when_somebody_looks_at_it(look: Callable[[Arrays], object], made: str) -> None:
    calls = []

    def make(name: str) -> np.ndarray:
        calls.append(name)
        return np.array([1.0, 2.0])

    arrays = Arrays({name: partial(make, name) for name in "xy"})
    look(arrays)
    look(arrays) if made != "xy" or "x" in arrays else None
    assert "".join(sorted(calls)) == made, "each of them once"
    if made == "xy":
        assert list(arrays["y"]) == [1, 2]
