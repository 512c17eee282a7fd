"""The schema: its facts against Caffe's, caffe.desc against caffe.proto, classes that pickle."""

import copy
import csv
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format

import caffe_compat.proto as proto
from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.compile import compile_schema, make_stub
from caffe_compat.proto.extend import extend_schema, merge_schema
from caffe_compat.proto.schema import load_caffe_schema

FOLDER = Path(proto.__file__).parent
FACTS = Path(__file__).parents[1] / "golden" / "schema"


def read_facts(name):
    lines = [line for line in (FACTS / name).read_text().splitlines() if not line.startswith("#")]
    return [tuple(row) for row in csv.reader(lines[1:], delimiter="\t")]


@pytest.fixture
def restored_schema():
    """Undo what a test adds to the schema."""
    before = caffe_pb2.current_schema()
    yield
    caffe_pb2.use_schema(before)


def describe(field):
    """A field as a row of caffe_proto_fields.tsv."""
    kind = field.type_name.removeprefix(".caffe.") or type(field).Type.Name(field.type).removeprefix("TYPE_").lower()
    label = type(field).Label.Name(field.label).removeprefix("LABEL_").lower()
    return (str(field.number), field.name, label, kind, field.default_value, "packed" if field.options.packed else "")


def test_every_field_is_caffes():
    ours = {
        (message.name, *describe(field)) for message in load_caffe_schema().file.message_type for field in message.field
    }
    assert ours == set(read_facts("caffe_proto_fields.tsv"))


def test_every_enum_value_is_caffes():
    file = load_caffe_schema().file
    enums = [("", file.enum_type), *((f"{message.name}.", message.enum_type) for message in file.message_type)]
    ours = {(f"{scope}{e.name}", str(v.number), v.name) for scope, group in enums for e in group for v in e.value}
    assert ours == set(read_facts("caffe_proto_enums.tsv"))


def test_desc_is_compiled_from_proto():
    assert compile_schema() == (FOLDER / "caffe.desc").read_bytes(), "run python -m caffe_compat.proto.compile"


def test_stub_is_made_from_proto():
    assert make_stub() == (FOLDER / "caffe_pb2.pyi").read_text(), "run python -m caffe_compat.proto.compile"


def test_compile_reports_a_syntax_error(tmp_path):
    (tmp_path / "bad.proto").write_text("message {")
    with pytest.raises(ProtoError, match=r"bad\.proto: protoc failed"):
        compile_schema(tmp_path / "bad.proto")


def test_our_own_parser_agrees_with_protoc():
    # Merged into an empty file, our parse of caffe.proto has to be what protoc makes of it.
    empty = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    assert merge_schema(empty, (FOLDER / "caffe.proto").read_text(), "caffe.proto") == load_caffe_schema().file


def test_names_are_those_of_a_generated_module():
    assert caffe_pb2.TEST == 1
    assert caffe_pb2.Phase.Name(0) == "TRAIN"
    assert caffe_pb2.PoolingParameter.AVE == 1
    assert caffe_pb2.PoolingParameter.PoolMethod.Value("STOCHASTIC") == 2
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4
    assert caffe_pb2.DESCRIPTOR.package == "caffe"
    assert "NetParameter" in dir(caffe_pb2)
    with pytest.raises(AttributeError, match="NoSuchThing"):
        caffe_pb2.NoSuchThing  # noqa: B018


def test_pool_is_private():
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")


def test_messages_pickle_and_copy():
    net = text_format.Merge('name: "n" layer { clip_param { min: 1 } }', caffe_pb2.NetParameter())
    for message in (net, net.layer[0]):  # max is required and missing: still a message
        assert pickle.loads(pickle.dumps(message)) == message
        assert copy.deepcopy(message) == message
        assert type(pickle.loads(pickle.dumps(message))) is type(message)


@pytest.mark.parametrize("implementation", ["python", "upb"])
def test_both_protobuf_implementations(implementation, tmp_path):
    (tmp_path / "extra.proto").write_text(
        "message Outer { message Inner { optional int32 x = 1; } optional Inner i = 1; }"
    )
    script = f"""
import pickle
from google.protobuf.internal import api_implementation
assert api_implementation.Type() == {implementation!r}, "implementation " + api_implementation.Type()
from caffe_compat.proto import caffe_pb2, extend_schema, parse_net
net = parse_net('layers {{ type: POOLING name: "p" pooling_param {{ pool: AVE }} }}')
assert net.layer[0].type == "Pooling" and net.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
assert pickle.loads(pickle.dumps(net)) == net
extend_schema({str(tmp_path / "extra.proto")!r})
assert caffe_pb2.Outer.Inner(x=3).x == 3
assert pickle.loads(pickle.dumps(caffe_pb2.Outer.Inner(x=3))).x == 3
"""
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation, "PYTHONPATH": str(FOLDER.parents[1])}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_proto_needs_no_torch():
    script = "import sys, caffe_compat.proto; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(FOLDER.parents[1])}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 0


# -- fields of forks ---------------------------------------------------------------------------

FORK = """
syntax = "proto2";
package caffe;  // as in a fork's own file
/* two ways
   to add fields */
message LayerParameter { optional BNParameter bn_param = 1000; optional string name = 1; }
extend LayerParameter { repeated BNParameter.Mode modes = 1001; };
message BNParameter {
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
message V1LayerParameter { enum LayerType { BN = 100; } optional int32 old_field = 2000; }
enum Phase { DEPLOY = 7; }
"""


def test_extend_schema(restored_schema, tmp_path):
    before = proto.parse_net('name: "old"')
    (tmp_path / "extra.proto").write_text(FORK)
    extend_schema(tmp_path / "extra.proto")
    net = proto.parse_net('layer { name: "b" bn_param { part { key: "k" } packed: [1, 2] } modes: FIX phase: DEPLOY }')
    param = net.layer[0].bn_param
    assert (round(param.eps, 9), param.mode, param.text, param.hex) == (1e-5, 1, "a\tb", 16)
    assert caffe_pb2.BNParameter.DESCRIPTOR.fields_by_name["packed"].GetOptions().packed
    assert caffe_pb2.V1LayerParameter.BN == 100
    assert caffe_pb2.DEPLOY == 7
    assert pickle.loads(pickle.dumps(net)) == net
    assert pickle.loads(pickle.dumps(param.part)) == param.part
    assert proto.read_net(before).name == "old"  # a message of the old classes
    with pytest.raises(ProtoError, match=r'layer "b": type BN is not one of Caffe\'s V1 types'):
        proto.parse_net('layers { type: BN name: "b" }')
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
        ("message LayerParameter { optional string foo = 1; }", ":2: number 1 is name in LayerParameter already"),
        ("message LayerParameter { optional int32 name = 1; }", ":2: LayerParameter has a field name already"),
        ("enum Phase { TRAIN = 3; }", ":2: TRAIN = 3 contradicts TRAIN = 0 of Phase"),
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
        ("message X { optional int32 a = 0; }", ":2: number 0 of field a; expected 1 to 536870911"),
        ("message X { optional int32 a = 'b'; }", ":2: expected a whole number, got \"'b'\""),
        ("message X { optional int32 = 1; }", ":2: expected a name, got '='"),
    ],
)
def test_extend_schema_refuses(restored_schema, tmp_path, text, message):
    path = tmp_path / "extra.proto"
    path.write_text("// a comment\n" + text)
    before = caffe_pb2.current_schema()
    with pytest.raises(ProtoError) as caught:
        extend_schema(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert caffe_pb2.current_schema() is before


def test_extend_schema_unreadable_files(tmp_path):
    with pytest.raises(ProtoError, match=r"none\.proto: cannot be read: No such file"):
        extend_schema(tmp_path / "none.proto")
    (tmp_path / "latin.proto").write_bytes(b"// \xe9")
    with pytest.raises(ProtoError, match=r"latin\.proto: is not UTF-8 text"):
        extend_schema(tmp_path / "latin.proto")
