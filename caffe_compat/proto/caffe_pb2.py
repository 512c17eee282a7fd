"""Caffe's messages, under the name that Caffe gives them: ``caffe_pb2.NetParameter()``, ``caffe_pb2.TRAIN``.

The names are looked up in the current schema each time, so write ``caffe_pb2.LayerParameter``
rather than importing the class: ``extend_schema`` replaces all classes.
"""

import copyreg
from typing import Any

from google.protobuf.message import Message

from caffe_compat.proto.schema import Schema, load_schema


def current_schema() -> Schema:
    """The schema that the names of this module come from."""
    return _schema


def use_schema(schema: Schema) -> None:
    """Replace all names of this module."""
    global _schema
    _schema = schema
    for message_class in schema.classes.values():
        copyreg.pickle(message_class, _reduce_message)


def _reduce_message(message: Message) -> tuple[Any, tuple[str, bytes]]:
    # The classes belong to no importable module, which pickle would look for.
    return _restore_message, (message.DESCRIPTOR.full_name, message.SerializePartialToString())


def _restore_message(full_name: str, data: bytes) -> Message:
    message = _schema.classes[full_name]()
    message.MergeFromString(data)
    return message


_schema: Schema
use_schema(load_schema())


def __getattr__(name: str) -> Any:
    try:
        return _schema.names[name]
    except KeyError:
        raise AttributeError(f"caffe_pb2 has no message, enum or value {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*_schema.names, "current_schema", "use_schema"])
