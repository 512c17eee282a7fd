"""Operators with CPU and CUDA kernels (csrc/), each with a plain PyTorch twin, mostly named ``reference``, which also
runs where the extension is missing."""

from caffe_compat.ops.batch_transform import batch_transform
from caffe_compat.ops.conv import conv
from caffe_compat.ops.conv_fast import fast_conv
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.linear import linear
from caffe_compat.ops.lrn import lrn
from caffe_compat.ops.pool import max_pool, relu_pool_lrn
from caffe_compat.ops.solver_update import solver_update_
from caffe_compat.ops.space_to_depth import space_to_depth

__all__ = [
    "ConvWindow",
    "batch_transform",
    "conv",
    "fast_conv",
    "linear",
    "lrn",
    "max_pool",
    "relu_pool_lrn",
    "solver_update_",
    "space_to_depth",
]
