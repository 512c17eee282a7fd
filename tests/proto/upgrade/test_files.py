"""Whole files upgraded: what is dropped goes to stderr and into the exit status."""

from pathlib import Path

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_net, read_message, write_binary_message
from caffe_compat.proto.upgrade.files import upgrade_net_file, upgrade_solver_file
from tests.proto.upgrade.v0_text import V0_DATA, v0_layer


@pytest.mark.parametrize(
    ("text", "dropped", "exit_status"),
    [
        (
            v0_layer('type: "relu" name: "r" num_output: 3'),
            r'layer "r": field num_output does not fit V0 type "relu"',
            1,
        ),
        (v0_layer('type: "relu" name: "r" new_num: 3'), r'layer "r": new_num was never implemented', 0),
        (v0_layer('type: "relu" name: "r"') + "debug_info: true", "debug_info has no meaning in a V0 net", 0),
        (
            'layers { layer { type: "relu" name: "r" } bottom: "data" name: "outer" }',
            'layer "r": name beside the V0',
            0,
        ),
        ("input_dim: 4", "1 input_dim entries beyond those of the 1 input", 0),
        ("input_shape { }", "input_dim was dropped because input_shape is given too", 0),
    ],
)
def test_what_is_dropped_is_said(
    text: str, dropped: str, exit_status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match=dropped):
        parse_net(V0_DATA + text)
    (tmp_path / "in").write_text(V0_DATA + text)
    assert upgrade_net_file(tmp_path / "in", tmp_path / "out", "text") == exit_status
    assert "dropped" in capsys.readouterr().err


def test_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").write_text('layers { type: RELU name: "r" }')
    assert upgrade_net_file(tmp_path / "old", tmp_path / "text", "text") == 0
    assert (tmp_path / "text").read_text() == 'layer {\n  name: "r"\n  type: "ReLU"\n}\n'
    assert capsys.readouterr().err == f"Wrote NetParameter (text) to {tmp_path / 'text'}\n"
    net = read_message(tmp_path / "old", caffe_pb2.NetParameter())
    write_binary_message(tmp_path / "old.bin", net)
    assert upgrade_net_file(tmp_path / "old.bin", tmp_path / "binary", "binary") == 0
    assert read_message(tmp_path / "binary", caffe_pb2.NetParameter(), "binary").layer[0].type == "ReLU"
    assert upgrade_net_file(tmp_path / "text", tmp_path / "again", "text") == 0
    assert f"{tmp_path / 'text'}: is in the current format already\n" in capsys.readouterr().err
    assert (tmp_path / "again").read_bytes() == (tmp_path / "text").read_bytes()


def test_solvers(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("base_lr: 0.5 solver_type: NESTEROV")
    assert upgrade_solver_file(tmp_path / "old", tmp_path / "new") == 0
    assert (tmp_path / "new").read_text() == 'base_lr: 0.5\ntype: "Nesterov"\n'


def test_a_refused_file_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text('solver_type: SGD type: "SGD"')
    with pytest.raises(ProtoError, match="both solver_type"):
        upgrade_solver_file(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()
