"""Messages to text and binary files, whole or not at all."""

from google.protobuf import text_format
from google.protobuf.message import Message

from caffe_compat.proto.blob import open_whole
from caffe_compat.proto.source import FilePath


def write_text_message(path: FilePath, message: Message) -> None:
    """Write ``message`` as prototxt (UTF-8).  Raises ProtoError when the file cannot be written."""
    with open_whole(path) as file:
        file.write(text_format.MessageToString(message).encode())


def write_binary_message(path: FilePath, message: Message) -> None:
    """Write ``message`` in protobuf's binary form.  Raises ProtoError when the file cannot be written.

    For nets with weights ``write_caffemodel`` needs less memory.
    """
    with open_whole(path) as file:
        file.write(message.SerializeToString())
