"""The tables, worked out here, beside those of the extension; and that the strips have one area."""

import re
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.random.ziggurat import exponential_tables, normal_tables

ROOT = Path(__file__).parents[2]
TABLES = {"normal": normal_tables, "exponential": exponential_tables}


@pytest.mark.parametrize("name", ["normal", "exponential"])
def test_the_tables_are_those_of_the_extension(name: str) -> None:
    header = (ROOT / "csrc" / "random" / "ziggurat_tables.h").read_text()
    for axis, table in zip("XY", TABLES[name](), strict=True):
        block = re.search(rf"k{name.title()}{axis}\[\d+\] = \{{(.*?)\}}", header, re.DOTALL)
        assert block is not None
        assert [float(text) for text in block[1].split(",")] == table.tolist()


@pytest.mark.parametrize(("name", "strips"), [("normal", 128), ("exponential", 256)])
def test_strips_have_equal_areas(name: str, strips: int) -> None:
    x, y = TABLES[name]()
    assert (len(x), len(y), x[-1], y[-1]) == (strips + 1, strips + 1, 0, 1)
    areas = x[1:-1] * (y[2:] - y[1:-1])
    assert np.allclose(areas, x[0] * y[1], rtol=1e-12)
