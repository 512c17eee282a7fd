"""Caffe's messages, their text and binary files, and the upgrades of old forms.  Needs no torch."""

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.forks import fork_of_field, fork_of_layer_type
from caffe_compat.proto.read import is_hdf5, parse_message, parse_net, read_message, read_net, read_net_with_source, read_solver
from caffe_compat.proto.source import Source, layer_lines
from caffe_compat.proto.upgrade import upgrade_net, upgrade_solver

__all__ = [
    "Source",
    "caffe_pb2",
    "fork_of_field",
    "fork_of_layer_type",
    "is_hdf5",
    "layer_lines",
    "parse_message",
    "parse_net",
    "read_message",
    "read_net",
    "read_net_with_source",
    "read_solver",
    "upgrade_net",
    "upgrade_solver",
]
