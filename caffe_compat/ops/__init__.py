"""Operators with CPU and CUDA kernels (csrc/), each with a plain PyTorch twin named ``_reference``."""

from caffe_compat.ops.conv import conv
from caffe_compat.ops.lrn import lrn

__all__ = ["conv", "lrn"]
