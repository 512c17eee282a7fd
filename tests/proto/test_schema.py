"""The schema: its facts against Caffe's."""

import csv
import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

import caffe_compat.proto as proto
from caffe_compat.proto.schema import load_caffe_schema

FOLDER = Path(proto.__file__).parent
FACTS = Path(__file__).parents[1] / "golden" / "schema"


def read_facts(name: str) -> list[tuple[str, ...]]:
    lines = [line for line in (FACTS / name).read_text().splitlines() if not line.startswith("#")]
    return [tuple(row) for row in csv.reader(lines[1:], delimiter="\t")]


def describe(field: FieldDescriptorProto) -> tuple[str, ...]:
    """A field as a row of caffe_proto_fields.tsv."""
    kind = field.type_name.removeprefix(".caffe.") or type(field).Type.Name(field.type).removeprefix("TYPE_").lower()
    label = type(field).Label.Name(field.label).removeprefix("LABEL_").lower()
    return (str(field.number), field.name, label, kind, field.default_value, "packed" if field.options.packed else "")


def test_every_field_is_caffes() -> None:
    ours = {
        (message.name, *describe(field)) for message in load_caffe_schema().file.message_type for field in message.field
    }
    assert ours == set(read_facts("caffe_proto_fields.tsv"))


def test_every_enum_value_is_caffes() -> None:
    file = load_caffe_schema().file
    enums = [("", file.enum_type), *((f"{message.name}.", message.enum_type) for message in file.message_type)]
    ours = {(f"{scope}{e.name}", str(v.number), v.name) for scope, group in enums for e in group for v in e.value}
    assert ours == set(read_facts("caffe_proto_enums.tsv"))


def test_proto_needs_no_torch() -> None:
    script = "import sys, caffe_compat.proto; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(FOLDER.parents[1])}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 0
