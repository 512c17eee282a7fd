"""Message classes made from descriptors, in a descriptor pool of our own.

No generated code is involved, so any protobuf version works, and a ``caffe_pb2`` of another
package in the same process cannot clash with ours.
"""

import copyreg
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

PACKAGE = "caffe"


class Schema:
    """All messages and top-level enums of one file of descriptors, by short name.

    ``names`` maps ``LayerParameter`` to its class, ``Phase`` to its wrapper, ``TRAIN`` to 0.
    """

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self.file = file
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        self.descriptor = pool.FindFileByName(file.name)
        self.names: dict[str, Any] = {"DESCRIPTOR": self.descriptor}
        for name, descriptor in self.descriptor.message_types_by_name.items():
            self.names[name] = message_factory.GetMessageClass(descriptor)
            copyreg.pickle(self.names[name], _reduce_message)
        for name, enum in self.descriptor.enum_types_by_name.items():
            self.names[name] = EnumTypeWrapper(enum)
            self.names.update((value.name, value.number) for value in enum.values)


def load_caffe_schema() -> Schema:
    """The schema of Caffe 1.0, from the shipped caffe.desc."""
    return Schema(read_descriptor(Path(__file__).parent / "caffe.desc"))


def read_descriptor(path: Path) -> descriptor_pb2.FileDescriptorProto:
    """The only file of a serialized FileDescriptorSet."""
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return file


def _reduce_message(message: Message) -> tuple[Any, tuple[str, bytes]]:
    # The classes belong to no importable module, which pickle would look for.
    return _restore_message, (message.DESCRIPTOR.name, message.SerializePartialToString())


def _restore_message(name: str, data: bytes) -> Message:
    from caffe_compat.proto import caffe_pb2

    message = getattr(caffe_pb2, name)()
    message.MergeFromString(data)
    return message
