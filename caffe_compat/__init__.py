"""Caffe's nets, weights, solvers and data, run faithfully and fast in PyTorch.

Public names are loaded on first use, so that ``caffe_compat.proto`` and the readers of files
work without importing torch.  The logger ``caffe_compat`` has its handler from here on: see ``caffe_compat.glog``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from caffe_compat import glog

if TYPE_CHECKING:
    from caffe_compat.errors import CaffeCompatError, DataError, NetError, ProtoError, SolverError
    from caffe_compat.layers.base import Layer
    from caffe_compat.layers.registry import register
    from caffe_compat.net import Net
    from caffe_compat.solver import Rule, Solver, register_rule

__version__ = "0.2.0"
glog.set_up()

_HOME = {
    "CaffeCompatError": "errors",
    "DataError": "errors",
    "NetError": "errors",
    "ProtoError": "errors",
    "SolverError": "errors",
    "Layer": "layers.base",
    "register": "layers.registry",
    "Net": "net",
    "Rule": "solver",
    "Solver": "solver",
    "register_rule": "solver",
}
_PACKAGES = ("data", "layers", "net", "ops", "proto", "pycaffe", "random", "solver")

__all__ = [
    "CaffeCompatError",
    "DataError",
    "Layer",
    "Net",
    "NetError",
    "ProtoError",
    "Rule",
    "Solver",
    "SolverError",
    "register",
    "register_rule",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"caffe_compat.{_HOME[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"caffe_compat.{name}")
    raise AttributeError(f"module 'caffe_compat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_PACKAGES])
