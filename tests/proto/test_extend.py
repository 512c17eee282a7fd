"""Fields of forks, added to the schema."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import caffe_compat.proto as proto
from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.extend import added_fields, extend_schema, merge_schema
from caffe_compat.proto.schema import Schema


@pytest.fixture
def restored_schema() -> Iterator[None]:
    """Undo what a test adds to the schema."""
    before = caffe_pb2.current_schema()
    yield
    caffe_pb2.use_schema(before)


FORK = """
syntax = "proto2";
package caffe;  // as in a fork's own file
/* two ways
   to add fields */
message LayerParameter { optional MyParameter my_param = 1000; optional string name = 1; }
extend LayerParameter { repeated MyParameter.Mode modes = 1001; };
message MyParameter {
  enum Mode { LEARN = 0; FIX = 1 [deprecated = true]; }
  message Part { optional bytes key = 1; }
  reserved 7;
  optional float eps = 1 [default = 1e-5, deprecated = true];
  optional Mode mode = 2 [default = FIX];
  optional string text = 3 [default = "a" "\\tb"];
  optional Part part = 4;
  repeated int32 packed = 5 [packed = true];
  optional uint32 hex = 6 [default = 0x10];
}
message V1LayerParameter { enum LayerType { MINE = 100; } optional int32 old_field = 2000; }
enum Phase { DEPLOY = 7; }
"""


def test_extend_schema(restored_schema: None, tmp_path: Path) -> None:
    before = proto.parse_net('name: "old"')
    (tmp_path / "extra.proto").write_text(FORK)
    extend_schema(tmp_path / "extra.proto")
    net = proto.parse_net('layer { name: "b" my_param { part { key: "k" } packed: [1, 2] } modes: FIX phase: DEPLOY }')
    layer: Any = net.layer[0]
    schema: Any = caffe_pb2  # its annotations know Caffe's own fields only
    param = layer.my_param
    assert (round(param.eps, 9), param.mode, param.text, param.hex) == (1e-5, 1, "a\tb", 16)
    assert schema.MyParameter.DESCRIPTOR.fields_by_name["packed"].GetOptions().packed
    assert schema.V1LayerParameter.MINE == 100
    assert schema.DEPLOY == 7
    assert pickle.loads(pickle.dumps(net)) == net
    assert pickle.loads(pickle.dumps(param.part)) == param.part
    assert proto.read_net(before).name == "old"  # a message of the old classes
    with pytest.raises(ProtoError, match=r'layer "b": type MINE is not one of Caffe\'s V1 types'):
        proto.parse_net('layers { type: MINE name: "b" }')
    with pytest.raises(ProtoError, match=r'layer "b": field old_field has no counterpart in LayerParameter'):
        proto.parse_net('layers { old_field: 3 name: "b" }')
    extended = caffe_pb2.current_schema().file
    extend_schema(tmp_path / "extra.proto")  # the same again changes nothing
    assert caffe_pb2.current_schema().file == extended


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("message A {", ":2: expected optional, required, repeated, message or enum in A, got 'end of file'"),
        ("message A { optional Foo x = 1; }", ':2: unknown type Foo of field "x"'),
        ("message X { optional int32 a = 1 [default = q]; }", ':2: default q does not fit the type of field "a"'),
        ("message X { optional bool a = 1 [default = 1]; }", ':2: default 1 does not fit the type of field "a"'),
        ("message X { optional Phase a = 1 [default = FOO]; }", ':2: default FOO does not fit the type of field "a"'),
        ("message X { optional float a = 1 [default = x]; }", ":2: default 'x' is no number"),
        ("message X { optional X a = 1 [default = 3]; }", ':2: default 3 does not fit the type of field "a"'),
        ('import "x.proto";', ":2: expected message, extend or enum, got 'import'"),
        ("message X { map<int32, int32> a = 1; }", ":2: expected optional, required, repeated, message or enum in X"),
        ("$", ":2: unexpected '$'"),
        ('syntax = "proto3";', ":2: syntax is proto3; expected proto2"),
        ("package other;", ":2: package is other; expected caffe"),
        ("message X { optional int32 a = 0; }", ":2: field number 0; expected 1 to 536870911"),
        ("message X { optional int32 a = 'b'; }", ":2: expected a whole number, got \"'b'\""),
        ("message X { optional int32 = 1; }", ":2: expected a name, got '='"),
    ],
)
def test_extend_schema_refuses(restored_schema: None, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "extra.proto"
    path.write_text("// a comment\n" + text)
    before = caffe_pb2.current_schema()
    with pytest.raises(ProtoError) as caught:
        extend_schema(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert caffe_pb2.current_schema() is before


def test_what_is_known_stays_and_is_said_once(restored_schema: None, tmp_path: Path) -> None:
    path = tmp_path / "fork.proto"
    path.write_text(
        """message LayerParameter { optional int32 name = 1; repeated Phase phase = 10; required string type = 2; }
        message LossParameter { optional bool normalize = 2 [default = true]; }
        message PoolingParameter { optional uint32 stride = 3 [default = 1]; }
        enum Phase { TRAIN = 3; }"""
    )
    before = caffe_pb2.current_schema().file
    with pytest.warns(UserWarning, match="known otherwise") as said:
        extend_schema(path)
    assert [str(warning.message) for warning in said] == [
        f"{path}: known otherwise here, and left so: LayerParameter.name is int32 there and string here; "
        "LayerParameter.phase takes several values there and one here; "
        "LossParameter.normalize has the default true there and false here; Phase.TRAIN is 3 there and 0 here"
    ]
    assert caffe_pb2.current_schema().file == before


def test_numbers_that_are_taken_give_way(restored_schema: None, tmp_path: Path) -> None:
    (tmp_path / "fork.proto").write_text(
        """message LayerParameter { optional string one = 1; optional MyParameter two = 106; }
        message MyParameter { optional float x = 1; }
        message PoolingParameter { enum PoolMethod { SUM = 0; } }"""
    )
    extend_schema(tmp_path / "fork.proto")
    net: Any = proto.parse_net('layer { name: "n" one: "1" two { x: 2 } pooling_param { pool: SUM } }')
    layer = net.layer[0]
    assert (layer.name, layer.one, layer.two.x) == ("n", "1", 2)
    numbers = layer.DESCRIPTOR.fields_by_name
    assert [numbers[name].number for name in ("one", "two", "convolution_param")] == [20_000_000, 20_000_001, 106]
    assert layer.pooling_param.pool == 20_000_000
    assert (
        proto.parse_net("layer { pooling_param { pool: 0 } }").layer[0].pooling_param.pool
        == caffe_pb2.PoolingParameter.MAX
    )


def test_extend_schema_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ProtoError, match=r"none\.proto: cannot be read: No such file"):
        extend_schema(tmp_path / "none.proto")
    (tmp_path / "binary.proto").write_bytes(b"\n\xe9\x00")
    with pytest.raises(ProtoError, match=r"binary\.proto:2: unexpected"):
        extend_schema(tmp_path / "binary.proto")


def test_comments_of_any_encoding(restored_schema: None, tmp_path: Path) -> None:
    text = "// 字\nmessage LayerParameter { optional int32 mine = 999; }"
    for i, encoding in enumerate(("gbk", "utf-8-sig")):
        (tmp_path / "fork.proto").write_bytes(text.replace("mine = 999", f"mine{i} = {990 + i}").encode(encoding))
        extend_schema(tmp_path / "fork.proto")
    assert proto.parse_net("layer { mine0: 1 mine1: 2 }").layer[0].ByteSize() > 0


def test_merge_leaves_the_base_as_it_was() -> None:
    base = caffe_pb2.current_schema().file
    before = base.SerializeToString()
    merged, differences = merge_schema(base, "message LayerParameter { optional int32 mine = 999; }", "extra")
    assert differences == []
    assert base.SerializeToString() == before
    (layer,) = (message for message in merged.message_type if message.name == "LayerParameter")
    (field,) = (field for field in layer.field if field.number == 999)
    assert (field.name, field.type, field.label) == ("mine", field.TYPE_INT32, field.LABEL_OPTIONAL)


def test_types_are_looked_up_from_the_inside_out() -> None:
    text = (
        "message Phase2 { } message A { message Phase2 { } optional Phase2 inner = 1; optional .caffe.Phase2 b = 2; }"
        "message B { optional Phase2 outer = 1; optional Phase phase = 2; }"
    )
    merged, _ = merge_schema(caffe_pb2.current_schema().file, text, "extra")
    fields = {f.name: f for message in merged.message_type if message.name in "AB" for f in message.field}
    assert fields["inner"].type_name == ".caffe.A.Phase2"
    assert fields["outer"].type_name == ".caffe.Phase2"
    assert fields["phase"].type_name == ".caffe.Phase"
    assert fields["phase"].type == fields["phase"].TYPE_ENUM


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enum Mine { TRAIN = 0; }", "TRAIN is a value of enum Phase already; name the one of Mine otherwise"),
        (
            "message PoolingParameter { enum R { MAX = 0; } }",
            "MAX is a value of enum PoolingParameter.PoolMethod already; name the one of R otherwise",
        ),
        ("message Phase { optional int32 a = 1; }", "Phase is an enum already; name the message otherwise"),
        ("enum LayerParameter { Q = 0; }", "LayerParameter is a message already; name the enum otherwise"),
        ("enum E { }", "enum E has no values"),
        ("message A { optional uint32 x = 1 [default = -1]; }", 'default -1 does not fit the type of field "x"'),
        ("message A { optional int32 x = 1 [default = 2147483648]; }", "default 2147483648 does not fit the type"),
        ('message A { optional float x = 1 [default = "a"]; }', "default a does not fit the type"),
        ("message A { repeated float x = 1 [default = 1]; }", "default 1 does not fit the type"),
    ],
)
def test_clashes_are_said_with_their_line(text: str, message: str) -> None:
    with pytest.raises(ProtoError) as caught:
        merge_schema(caffe_pb2.current_schema().file, "// one\n" + text, "extra.proto")
    assert str(caught.value).startswith(f"extra.proto:2: {message}")


def test_the_ends_of_the_ranges_fit() -> None:
    text = (
        "message A { optional uint32 a = 1 [default = 4294967295]; optional int32 b = 2 [default = -2147483648];"
        " optional sint64 c = 3 [default = 9223372036854775807]; optional double d = 4 [default = inf]; }"
    )
    Schema(merge_schema(caffe_pb2.current_schema().file, text, "extra")[0])


def test_what_is_set_by_the_added_schema_only(restored_schema: None, tmp_path: Path) -> None:
    assert added_fields(proto.parse_net("layer { pooling_param { pool: MAX } }").layer[0]) == []
    (tmp_path / "fork.proto").write_text(
        "message LayerParameter { optional bool mine = 1000; }"
        "message PoolingParameter { enum PoolMethod { SUM = 7; } }"
        "message ParamSpec { optional int32 group = 1000; }"
    )
    extend_schema(tmp_path / "fork.proto")
    text = "layer { mine: true pooling_param { pool: SUM ceil_mode: false } param { } param { group: 1 } }"
    found = added_fields(proto.parse_net(text).layer[0])
    assert sorted(found) == ["mine", "param.group", "pooling_param.ceil_mode", "pooling_param.pool: SUM"]
    assert added_fields(proto.parse_net("layer { pooling_param { pool: MAX } }").layer[0]) == []
