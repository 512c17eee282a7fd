"""pycaffe's interface over caffe_compat: ``import caffe_compat.pycaffe as caffe``.

Nets are run layer by layer over blobs, whose ``data`` and ``diff`` are writable NumPy views.
"""

from caffe_compat.layers.python import UserLayer as Layer
from caffe_compat.net.layer_types import layer_types
from caffe_compat.pycaffe import proto
from caffe_compat.pycaffe.mode import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe_compat.pycaffe.net import Net
from caffe_compat.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

TRAIN = 0
TEST = 1
__version__ = "1.0.0"  # of the Caffe whose interface this is


def layer_type_list() -> list[str]:
    """Names of all layer types, sorted."""
    return sorted(layer_types())


__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Layer",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "get_solver",
    "layer_type_list",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
