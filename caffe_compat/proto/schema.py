"""Message classes made from descriptors, in a descriptor pool of our own.

No generated code is involved, so any protobuf version works, and a ``caffe_pb2`` of another
package in the same process cannot clash with ours.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

from caffe_compat.errors import ProtoError

PACKAGE = "caffe"


class Schema:
    """All messages and top-level enums of one file of descriptors.

    ``names`` maps ``LayerParameter`` to its class, ``Phase`` to its wrapper, ``TRAIN`` to 0.
    ``classes`` has every message, also nested ones, by full name: ``caffe.LayerParameter``.
    ``numberings``: what the numbers of a binary net may mean beside what the file says (see ``fork_numbers``).
    """

    def __init__(self, file: descriptor_pb2.FileDescriptorProto, numberings: Sequence[Any] = ()) -> None:
        self.file = file
        self.numberings = tuple(numberings)
        pool = descriptor_pool.DescriptorPool()
        try:
            pool.AddSerializedFile(file.SerializeToString())
            self.descriptor = pool.FindFileByName(file.name)
        except (TypeError, KeyError, ValueError) as error:
            raise ProtoError(f"{file.name}: inconsistent schema: {error}") from None
        self.classes: dict[str, type[Message]] = {}
        self._add_classes(self.descriptor.message_types_by_name.values())
        self.names: dict[str, Any] = {"DESCRIPTOR": self.descriptor}
        for name, descriptor in self.descriptor.message_types_by_name.items():
            self.names[name] = self.classes[descriptor.full_name]
        for name, enum in self.descriptor.enum_types_by_name.items():
            self.names[name] = EnumTypeWrapper(enum)
            self.names.update((value.name, value.number) for value in enum.values)

    def _add_classes(self, descriptors: Iterable[Descriptor]) -> None:
        for descriptor in descriptors:
            message_class = message_factory.GetMessageClass(descriptor)
            self.classes[descriptor.full_name] = message_class
            self._add_classes(descriptor.nested_types)
            for nested in descriptor.nested_types:
                if not hasattr(message_class, nested.name):  # protobuf's pure Python classes lack them
                    setattr(message_class, nested.name, self.classes[nested.full_name])


@cache
def load_caffe_schema() -> Schema:
    """The schema of Caffe 1.0 alone, from the shipped caffe.desc."""
    return Schema(read_descriptor(Path(__file__).parent / "caffe.desc"))


@cache
def load_schema() -> Schema:
    """Caffe 1.0's schema with the fields that its forks added, from the shipped forks.desc."""
    return Schema(read_descriptor(Path(__file__).parent / "forks.desc"))


def read_descriptor(path: Path) -> descriptor_pb2.FileDescriptorProto:
    """The only file of a serialized FileDescriptorSet."""
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return file
