"""The parser of .proto texts."""

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, text_format

import caffe_compat.proto as proto
from caffe_compat.errors import ProtoError
from caffe_compat.proto.extend import merge_schema
from caffe_compat.proto.schema import load_caffe_schema
from caffe_compat.proto.schema_text import parse_schema

FOLDER = Path(proto.__file__).parent


def test_our_own_parser_agrees_with_protoc() -> None:
    # Merged into an empty file, our parse of caffe.proto has to be what protoc makes of it.
    empty = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    assert merge_schema(empty, (FOLDER / "caffe.proto").read_text(), "caffe.proto") == (load_caffe_schema().file, [])


TEXT = """syntax = "proto2";
package caffe;
option optimize_for = SPEED;  /* passed over */
message M {
  optional float x = 1 [default = 5];
  repeated .caffe.Other others = 0x10 [deprecated = true, packed = false];
  enum E { A = 0; B = -2 [deprecated = true]; }
  message Inner { required string s = 3 [default = "a\\tb" 'c']; reserved 4 to 6; }
  optional E e = 4 [default = B];
}
extend M { optional bool more = 5 [default = true]; };
"""
EXPECTED = r"""
name: "extra.proto"
message_type {
  name: "M"
  field { name: "x" number: 1 label: LABEL_OPTIONAL type: TYPE_FLOAT default_value: "5" }
  field { name: "others" number: 16 label: LABEL_REPEATED type_name: ".caffe.Other" options { packed: false } }
  field { name: "e" number: 4 label: LABEL_OPTIONAL type_name: "E" default_value: "B" }
  field { name: "more" number: 5 label: LABEL_OPTIONAL type: TYPE_BOOL default_value: "true" }
  enum_type { name: "E" value { name: "A" number: 0 } value { name: "B" number: -2 } }
  nested_type {
    name: "Inner"
    field { name: "s" number: 3 label: LABEL_REQUIRED type: TYPE_STRING default_value: "a\tbc" }
  }
}
"""
LINES = {
    "M": 4,
    "M.x": 5,
    "M.others": 6,
    "M.E": 7,
    "M.E.A": 7,
    "M.E.B": 7,
    "M.Inner": 8,
    "M.Inner.s": 8,
    "M.e": 9,
    "M.more": 11,
}


def test_descriptor_and_lines() -> None:
    found, lines = parse_schema(TEXT, "extra.proto")
    assert found == text_format.Parse(EXPECTED, descriptor_pb2.FileDescriptorProto())
    assert lines == LINES


@pytest.mark.parametrize(
    ("kind", "written", "default"),
    [
        ("float", "1e-5", "1e-05"),
        ("float", "-.5", "-0.5"),
        ("double", "inf", "inf"),
        ("int32", "-0x10", "-16"),
        ("string", '"\\x41\\n"', "A\n"),
        ("bool", "false", "false"),
    ],
)
def test_defaults(kind: str, written: str, default: str) -> None:
    found, _ = parse_schema(f"message M {{ optional {kind} x = 1 [default = {written}]; }}", "")
    assert found.message_type[0].field[0].default_value == default


def test_an_empty_file() -> None:
    found, lines = parse_schema("// nothing\n", "empty")
    assert found == descriptor_pb2.FileDescriptorProto(name="empty")
    assert lines == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("message M {\n optional int32 x = 1;", "p:2: expected optional, required, repeated, message or enum in M"),
        ("\n\nservice S { }", "p:3: expected message, extend or enum, got 'service'"),
        ('package "other";', "p:1: package is other; expected caffe"),
        ("enum E { A = B; }", "p:1: expected a whole number, got 'B'"),
        ("message M { optional int32 x = 1 }", "p:1: expected ';', got '}'"),
        ("\nmessage M { @ }", "p:2: unexpected '@'"),
    ],
)
def test_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ProtoError) as caught:
        parse_schema(text, "p")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("number", ["0", "-1", "536870912", "99999999999999999999", "0x7fffffff", "9" * 5000])
def test_numbers_that_no_field_has(number: str) -> None:
    with pytest.raises(
        ProtoError, match=r":1: (field number .*; expected 1 to 536870911|expected a number of 32 bits)"
    ):
        parse_schema(f"message LayerParameter {{ optional float x = {number}; }}", "extra.proto")
