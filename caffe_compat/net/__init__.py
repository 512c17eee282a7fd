"""Nets: phase rules, splits, the ``Net`` module, weights in and out."""

from caffe_compat.net.net import LearnableParam, Net, Step
from caffe_compat.net.weights import CopyReport

__all__ = ["CopyReport", "LearnableParam", "Net", "Step"]
