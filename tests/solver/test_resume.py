"""Our file beside a snapshot: any state comes back, a damaged file is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.solver.resume import read_resume, write_resume


def test_states_come_back(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = [
        {"bytes": b"\x00\xff", "list": [1, 2.5, None, "x"], "tensor": torch.tensor([[1.5, -2.0]], dtype=torch.float64)},
        {"number": np.int64(7), "array": np.arange(3, dtype=np.uint8), "nested": {"empty": torch.zeros(0, 4)}},
    ]
    write_resume(tmp_path / "a.resume", 12, states)
    record = read_resume(tmp_path / "a.resume")
    assert (record["version"], record["iteration"]) == (1, 12)
    first, second = record["ranks"]
    assert (first["bytes"], first["list"], second["number"]) == (b"\x00\xff", [1, 2.5, None, "x"], 7)
    assert first["tensor"].dtype == torch.float64
    assert first["tensor"].tolist() == [[1.5, -2.0]]
    assert second["array"].dtype == torch.uint8
    assert second["array"].tolist() == [0, 1, 2]
    assert second["nested"]["empty"].shape == (0, 4)


def test_the_form_of_version_1(tmp_path: Path) -> None:
    """Files that were written before must be read."""
    write_resume(tmp_path / "a.resume", 3, [{"caffe": b"ab", "t": torch.tensor([1], dtype=torch.int32)}])
    assert json.loads((tmp_path / "a.resume").read_text()) == {
        "version": 1,
        "iteration": 3,
        "ranks": [
            {"caffe": {"__bytes__": "YWI="}, "t": {"__tensor__": "AQAAAA==", "dtype": "int32", "shape": [1]}},
        ],
    }


@pytest.mark.parametrize("text", ['{"version": 1, "itera', '{"version": 2}', "[]"])
def test_what_is_no_resume_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.resume").write_text(text)
    with pytest.raises(SolverError, match=r"a\.resume: .*; remove it to resume as Caffe"):
        read_resume(tmp_path / "a.resume")


def test_a_state_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaffeCompatError, match="a source_state holds a object"):
        write_resume(tmp_path / "a.resume", 3, [{"x": object()}])
