"""Nets: phase rules, splits, the ``Net`` module, weights in and out.

Public names are loaded on first use; the phase rules need no torch.
"""

from typing import TYPE_CHECKING

from caffe_compat.lazy import lazy

if TYPE_CHECKING:
    from caffe_compat.net.graph import LearnableParam, Step
    from caffe_compat.net.net import Net
    from caffe_compat.net.weights import CopyReport

__all__ = ["CopyReport", "LearnableParam", "Net", "Step"]

__getattr__, __dir__ = lazy(
    __name__, {"CopyReport": "net.weights", "LearnableParam": "net.graph", "Net": "net.net", "Step": "net.graph"}
)
