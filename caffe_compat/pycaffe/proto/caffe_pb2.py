"""Caffe's message classes and enum values, from :mod:`caffe_compat.proto.caffe_pb2`."""

from typing import Any

from caffe_compat.proto import caffe_pb2

__all__ = [name for name in dir(caffe_pb2) if not name.startswith("_")]


def __getattr__(name: str) -> Any:
    return getattr(caffe_pb2, name)
