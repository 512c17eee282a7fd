from pathlib import Path

import pytest

from caffe_compat.proto import caffe_pb2, read_message
from tests.tools.upgrade_cases import case_names, check_case, run_tool


@pytest.mark.parametrize("name", case_names("upgrade_solver_proto_text"))
def test_equals_caffes(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)


def test_says_when_nothing_is_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text('type: "Adam"')
    assert run_tool("upgrade_solver_proto_text", tmp_path / "in", tmp_path / "out") == 0
    assert "in: is in the current format already" in capsys.readouterr().err
    assert read_message(tmp_path / "out", caffe_pb2.SolverParameter()).type == "Adam"
