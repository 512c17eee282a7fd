"""Operators with CPU and CUDA kernels (csrc/), each with a plain PyTorch twin named ``_reference``."""

from caffe_compat.ops.conv import conv
__all__ = ["conv", "fast_conv", "linear", "lrn", "max_pool", "relu_pool_lrn"]
