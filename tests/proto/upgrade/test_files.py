"""Whole files upgraded: what is dropped goes to stderr and into the exit status."""

import pytest

from caffe_compat.proto import parse_net
from caffe_compat.proto.upgrade.files import upgrade_net_file
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
def test_what_is_dropped_is_said(text, dropped, exit_status, tmp_path, capsys):
    with pytest.warns(UserWarning, match=dropped):
        parse_net(V0_DATA + text)
    (tmp_path / "in").write_text(V0_DATA + text)
    assert upgrade_net_file(tmp_path / "in", tmp_path / "out", "text") == exit_status
    assert "dropped" in capsys.readouterr().err
