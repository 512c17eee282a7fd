"""Caffe's messages, under the name that Caffe gives them: ``caffe_pb2.NetParameter()``, ``caffe_pb2.TRAIN``.

The names are looked up in the current schema each time, so write ``caffe_pb2.LayerParameter``
rather than importing the class: ``extend_schema`` replaces all classes.
"""

from typing import Any

from caffe_compat.proto.schema import Schema, load_caffe_schema

_schema = load_caffe_schema()


def current_schema() -> Schema:
    """The schema that the names of this module come from."""
    return _schema


def use_schema(schema: Schema) -> None:
    """Replace all names of this module."""
    global _schema
    _schema = schema


def __getattr__(name: str) -> Any:
    try:
        return _schema.names[name]
    except KeyError:
        raise AttributeError(f"caffe_pb2 has no message, enum or value {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*_schema.names, "current_schema", "use_schema"])
