"""Messages to files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_net, read_message, read_net, write_binary_message, write_text_message


def test_text_round_trip(tmp_path: Path) -> None:
    net = parse_net('name: "\u00e9\u4e2d\\n\\"" layer { loss_weight: [0.1, inf, -nan, 1e-30] }')
    write_text_message(tmp_path / "n.prototxt", net)
    assert str(read_net(tmp_path / "n.prototxt")) == str(net)


def test_exact_bytes(tmp_path: Path) -> None:
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="a", loss_weight=[0.5])
    write_text_message(tmp_path / "text", net)
    assert (tmp_path / "text").read_bytes() == b'name: "n"\nlayer {\n  name: "a"\n  loss_weight: 0.5\n}\n'
    write_binary_message(tmp_path / "binary", net)
    # name (1): "n"; layer (100) of 8 bytes: name (1): "a", loss_weight (5): a float
    assert (tmp_path / "binary").read_bytes() == b"\x0a\x01n" + b"\xa2\x06\x08" + b"\x0a\x01a" + b"\x2d\0\0\0\x3f"
    assert read_message(tmp_path / "binary", caffe_pb2.NetParameter()) == net


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "n").write_text("x" * 1000)
    write_binary_message(tmp_path / "n", caffe_pb2.NetParameter())
    assert (tmp_path / "n").read_bytes() == b""


def test_a_message_without_its_required_fields_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "n").write_text("old")
    incomplete = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(clip_param={"min": 1})])
    line = r"n: cannot be written: required field layer\[0\]\.clip_param\.max is missing; set it$"
    with pytest.raises(ProtoError, match=line):
        write_binary_message(tmp_path / "n", incomplete)
    assert (tmp_path / "n").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["n"]


@pytest.mark.parametrize("write", [write_text_message, write_binary_message])
def test_a_missing_folder(tmp_path: Path, write: Callable[[Path, Message], None]) -> None:
    with pytest.raises(ProtoError, match=r"none.n: cannot be written: No such file or directory"):
        write(tmp_path / "none" / "n", caffe_pb2.NetParameter())
