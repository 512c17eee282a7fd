"""The table of measurements is read as it was written."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.diagnostics.measurements import COLUMNS, Measurement, read_measurements, write_measurements

ROW = Measurement(
    measure="cka",
    network="transfer0A0B_1_4",
    split="0",
    base="A",
    target="B",
    n=4,
    treatment="AnB",
    seed="7",
    reference="half0B",
    layer="conv4",
    value=1 / 3,
)


def test_all_digits_come_back(tmp_path: Path) -> None:
    file = tmp_path / "diagnostics.csv"
    undefined = replace(ROW, value=math.nan)
    write_measurements([ROW, undefined], file)
    head, first, second = file.read_text().splitlines()
    assert head == ",".join(COLUMNS) == "measure,network,split,base,target,n,treatment,seed,reference,layer,value"
    assert first == "cka,transfer0A0B_1_4,0,A,B,4,AnB,7,half0B,conv4,0.3333333333333333"
    assert second.endswith(",nan")
    one, other = read_measurements(file)
    assert one == ROW
    assert math.isnan(other.value)


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", f"{','.join(COLUMNS)}\n1,2\n", f"{','.join(COLUMNS)}\n{',' * 5}x{',' * 5}1\n"]
)
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(DataError, match=r"other\.csv: is no table with the columns measure,.*; write it anew with"):
        read_measurements(tmp_path / "other.csv")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file or directory; expected a table of"):
        read_measurements(tmp_path / "gone.csv")
