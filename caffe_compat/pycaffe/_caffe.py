"""The names of Caffe's compiled module, ``caffe._caffe``, and of ``caffe.pycaffe``."""

from caffe_compat.layers.python import UserLayer as Layer
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto.caffe_pb2 import LayerParameter, SolverParameter
from caffe_compat.pycaffe.blob import Blob, BlobVec
from caffe_compat.pycaffe.glog import init_log, log
from caffe_compat.pycaffe.mode import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe_compat.pycaffe.nccl import NCCL, has_nccl
from caffe_compat.pycaffe.net import Net
from caffe_compat.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from caffe_compat.pycaffe.timer import Timer

__version__ = "1.0.0"  # of the Caffe whose interface this is

# Caffe's vectors are lists here.
RawBlobVec = BlobVec
LayerVec = StringVec = IntVec = DtypeVec = NetVec = BoolVec = list


def layer_type_list() -> list[str]:
    """Names of all layer types, sorted."""
    return sorted(layer_types())


__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
