"""caffe.desc, forks.desc and caffe_pb2.pyi, made from caffe.proto and forks.proto."""

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import caffe_compat.proto as proto
from caffe_compat.errors import ProtoError
from caffe_compat.proto.compile import compile_forks, compile_schema, make_stub

FOLDER = Path(proto.__file__).parent


def test_desc_is_compiled_from_proto() -> None:
    assert compile_schema() == (FOLDER / "caffe.desc").read_bytes(), "run python -m caffe_compat.proto.compile"


def test_forks_are_merged_from_proto() -> None:
    assert compile_forks() == (FOLDER / "forks.desc").read_bytes(), "run python -m caffe_compat.proto.compile"


def test_stub_is_made_from_proto() -> None:
    assert make_stub() == (FOLDER / "caffe_pb2.pyi").read_text(), "run python -m caffe_compat.proto.compile"


def test_compile_reports_a_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text("message {")
    with pytest.raises(ProtoError, match=r"bad\.proto: protoc failed"):
        compile_schema(tmp_path / "bad.proto")


def test_names_of_json_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "m.proto").write_text('syntax = "proto2"; message M { optional int32 some_field = 1; }')
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(compile_schema(tmp_path / "m.proto")).file
    (field,) = file.message_type[0].field
    assert (field.name, field.number, field.type) == ("some_field", 1, field.TYPE_INT32)
    assert not field.HasField("json_name")
