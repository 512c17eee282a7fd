"""Nets: phase rules, splits, the ``Net`` module, weights in and out."""

from caffe_compat.net.graph import LearnableParam, Step
from caffe_compat.net.net import Net
from caffe_compat.net.weights import CopyReport

__all__ = ["CopyReport", "LearnableParam", "Net", "Step"]
