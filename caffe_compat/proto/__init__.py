"""Caffe's messages, their text and binary files, and the upgrades of old forms.  Needs no torch.

What needs h5py is loaded at its first use.
"""

from typing import TYPE_CHECKING

from caffe_compat.lazy import lazy
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.blob import read_blob, write_blob
from caffe_compat.proto.caffemodel import LayerWeights, message_weights, read_caffemodel, write_caffemodel
from caffe_compat.proto.extend import extend_schema
from caffe_compat.proto.forks import fork_of_field, fork_of_layer_type
from caffe_compat.proto.read import (
    is_hdf5,
    parse_message,
    parse_net,
    read_message,
    read_net,
    read_net_with_source,
    read_solver,
)
from caffe_compat.proto.solverstate import SolverSnapshot, read_solverstate, write_solverstate
from caffe_compat.proto.source import Source, layer_lines
from caffe_compat.proto.upgrade import upgrade_net, upgrade_solver
from caffe_compat.proto.write import write_binary_message, write_text_message

if TYPE_CHECKING:
    from caffe_compat.proto.hdf5 import (
        read_hdf5_solverstate,
        read_hdf5_weights,
        write_hdf5_solverstate,
        write_hdf5_weights,
    )

__all__ = [
    "LayerWeights",
    "SolverSnapshot",
    "Source",
    "caffe_pb2",
    "extend_schema",
    "fork_of_field",
    "fork_of_layer_type",
    "is_hdf5",
    "layer_lines",
    "message_weights",
    "parse_message",
    "parse_net",
    "read_blob",
    "read_caffemodel",
    "read_hdf5_solverstate",
    "read_hdf5_weights",
    "read_message",
    "read_net",
    "read_net_with_source",
    "read_solver",
    "read_solverstate",
    "upgrade_net",
    "upgrade_solver",
    "write_binary_message",
    "write_blob",
    "write_caffemodel",
    "write_hdf5_solverstate",
    "write_hdf5_weights",
    "write_solverstate",
    "write_text_message",
]

_HDF5 = ("read_hdf5_solverstate", "read_hdf5_weights", "write_hdf5_solverstate", "write_hdf5_weights")
__getattr__, __dir__ = lazy(__name__, dict.fromkeys(_HDF5, "proto.hdf5"))
