"""The parser of .proto texts."""

from pathlib import Path

from google.protobuf import descriptor_pb2

import caffe_compat.proto as proto
from caffe_compat.proto.extend import merge_schema
from caffe_compat.proto.schema import load_caffe_schema

FOLDER = Path(proto.__file__).parent
Field = descriptor_pb2.FieldDescriptorProto


def test_our_own_parser_agrees_with_protoc():
    # Merged into an empty file, our parse of caffe.proto has to be what protoc makes of it.
    empty = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    assert merge_schema(empty, (FOLDER / "caffe.proto").read_text(), "caffe.proto") == load_caffe_schema().file
