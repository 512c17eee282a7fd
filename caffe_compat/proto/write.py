"""Messages to text and binary files, whole or not at all."""

import os

from google.protobuf import text_format
from google.protobuf.message import Message

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.blob import open_whole
from caffe_compat.proto.fork_files import net_writer
from caffe_compat.proto.source import FilePath


def write_text_message(path: FilePath, message: Message) -> None:
    """Write ``message`` as prototxt (UTF-8).  Raises ProtoError when the file cannot be written."""
    with open_whole(path) as file:
        file.write(text_format.MessageToString(message).encode())


def write_binary_message(path: FilePath, message: Message) -> None:
    """Write ``message`` in protobuf's binary form.  Raises ProtoError when the file cannot be written, or the message
    lacks a required field.

    Fields of forks get the numbers of a fork (see ``fork_files.net_writer``).  For nets with weights
    ``write_caffemodel`` needs less memory.
    """
    missing: list[str] = message.FindInitializationErrors()  # type: ignore[attr-defined]  # the stubs lack it
    if missing:
        raise ProtoError(
            f"{os.fspath(path)}: cannot be written: required field {', '.join(missing)} is missing; set it"
        )
    data = message.SerializeToString()
    if isinstance(message, caffe_pb2.NetParameter):
        data = net_writer(message, os.fspath(path))(data, message.DESCRIPTOR)
    with open_whole(path) as file:
        file.write(data)
