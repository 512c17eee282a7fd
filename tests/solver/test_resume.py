"""Our file beside a snapshot: any state comes back, a damaged file is named."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.proto import SolverSnapshot
from caffe_compat.solver.resume import misfit, read_resume, snapshot_identity, write_resume


def test_states_come_back(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = [
        {"bytes": b"\x00\xff", "list": [1, 2.5, None, "x"], "tensor": torch.tensor([[1.5, -2.0]], dtype=torch.float64)},
        {"number": np.int64(7), "array": np.arange(3, dtype=np.uint8), "nested": {"empty": torch.zeros(0, 4)}},
    ]
    write_resume(tmp_path / "a.resume", 12, states, {"weights": "12ab"})
    record = read_resume(tmp_path / "a.resume")
    assert (record["version"], record["iteration"], record["snapshot"]) == (2, 12, {"weights": "12ab"})
    first, second = record["ranks"]
    assert (first["bytes"], first["list"], second["number"]) == (b"\x00\xff", [1, 2.5, None, "x"], 7)
    assert first["tensor"].dtype == torch.float64
    assert first["tensor"].tolist() == [[1.5, -2.0]]
    assert second["array"].dtype == torch.uint8
    assert second["array"].tolist() == [0, 1, 2]
    assert second["nested"]["empty"].shape == (0, 4)


def test_the_form_of_version_2(tmp_path: Path) -> None:
    """Files that were written before must be read."""
    states = [{"caffe": b"ab", "t": torch.tensor([1], dtype=torch.int32)}]
    write_resume(tmp_path / "a.resume", 3, states, {"solverstate": "0f"})
    assert json.loads((tmp_path / "a.resume").read_text()) == {
        "sha256": "72cb00a391a83eec3d495cd0f39624b2fdd0523a5ee44e0db4afb7e4e4bbc01e",
        "version": 2,
        "iteration": 3,
        "snapshot": {"solverstate": "0f"},
        "ranks": [
            {"caffe": {"__bytes__": "YWI="}, "t": {"__tensor__": "AQAAAA==", "dtype": "int32", "shape": [1]}},
        ],
    }


def test_one_of_version_1_is_read_but_fits_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.resume").write_text('{"version": 1, "iteration": 3, "ranks": [{}]}')
    record = read_resume(tmp_path / "a.resume")
    assert record["iteration"] == 3
    assert misfit(record, {}) == "is of version 1, which does not say what it belongs to"


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 1, "itera',
        '{"version": 2}',
        '{"version": 3}',
        "[]",
        "",
        "[" * 100_000,
        '{"version": 1, "a": {"__tensor__": "AQAAAA=="}}',
        '{"version": 1, "a": {"__tensor__": "AQAAAA==", "dtype": "O", "shape": [1]}}',
        '{"version": 1, "a": {"__tensor__": "AQAAAA==", "dtype": [], "shape": 1e99}}',
        '{"version": 1, "a": {"__bytes__": 5}}',
    ],
)
def test_what_is_no_resume_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.resume").write_text(text)
    with pytest.raises(SolverError, match=r"a\.resume: .*; remove it to resume as Caffe does$"):
        read_resume(tmp_path / "a.resume")


def test_every_byte_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.resume"
    write_resume(file, 3, [{"caffe": b"ab", "n": 5}], {"solverstate": "0f"})
    whole = file.read_bytes()
    for place in range(len(whole)):
        for byte in (b"0", b"1", b"A", bytes([whole[place] ^ 0x80])):
            file.write_bytes(whole[:place] + byte + whole[place + 1 :])
            if file.read_bytes() != whole:
                with pytest.raises(SolverError, match=r"^\S*a\.resume: "):
                    read_resume(file)


def test_a_snapshot_is_told_from_others(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w")

    def identity(iteration: int = 3, step: int = 0, number: float = 1.0) -> dict[str, str]:
        return snapshot_identity(SolverSnapshot(iteration, None, step, [np.full((2, 2), number, np.float32)]), weights)

    record = {"version": 2, "snapshot": identity()}
    assert misfit(record, identity()) == ""
    for other in (identity(iteration=4), identity(step=1), identity(number=2.0)):
        assert misfit(record, other) == "was written with another snapshot (other solverstate)"
    weights.write_bytes(b"v")
    assert misfit(record, identity()) == "was written with another snapshot (other weights)"
    assert misfit(record, identity(4)) == "was written with another snapshot (other solverstate and weights)"
    assert misfit({"version": 2, "snapshot": {}}, identity()) == "was written with another snapshot (other files)"


def test_a_state_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaffeCompatError, match="a source_state holds a object"):
        write_resume(tmp_path / "a.resume", 3, [{"x": object()}])


@pytest.mark.parametrize(
    "change", [{"snapshot": None}, {"ranks": None}, {"ranks": [None]}, {"ranks": {"0": {}}}, {"snapshot": [1]}]
)
def test_another_programs_fields_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its digest is right."""
    text = json.dumps({"version": 2, "iteration": 3, "snapshot": {"weights": "0f"}, "ranks": [{}], **change})
    digest = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "a.resume").write_text(f'{{"sha256": "{digest}", {text[1:]}')
    with pytest.raises(SolverError, match=r"a\.resume: is damaged: has no snapshot's digests or no states; remove it"):
        read_resume(tmp_path / "a.resume")
