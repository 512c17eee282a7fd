"""The compiled part of the package, ``caffe_compat._C``: loaded here and nowhere else.

Importing it registers the operators ``torch.ops.caffe_compat``.  A package without it (a pure-Python install, or one
built for another PyTorch) reads, converts, checks and trains all the same: each operator, the random stream and the
maker of batches have a plain twin, which runs then, slowly, after one warning.  ``CAFFE_COMPAT_EXTENSION=0`` in the
environment leaves the extension out on purpose.
"""

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from caffe_compat.errors import CaffeCompatError

VARIABLE = "CAFFE_COMPAT_EXTENSION"
BUILD = "build it with `pip install --no-build-isolation -e .` (again after torch was changed)"

Function = TypeVar("Function", bound=Callable[..., Any])

_plain_twins: dict[str, Callable[..., Any]] = {}


@cache
def _import() -> tuple[ModuleType | None, str]:
    """(the extension, or None; why it is missing)."""
    if os.environ.get(VARIABLE) == "0":
        return None, f"{VARIABLE} is 0"
    try:
        import_module("torch")  # the extension is linked against its libraries
        return import_module("caffe_compat._C"), ""
    except ImportError as error:
        return None, f"{error}; {BUILD}"


@cache
def load() -> ModuleType | None:
    """The extension; None, after one warning, where plain twins must do."""
    module, reason = _import()
    if module is None and os.environ.get(VARIABLE) != "0":
        warnings.warn(f"caffe_compat runs without its compiled part, slowly: {reason}", stacklevel=2)
    return module


def require(purpose: str) -> ModuleType:
    """The extension, for what has no plain twin; CaffeCompatError, which names ``purpose``, without it."""
    module, reason = _import()
    if module is None:
        raise CaffeCompatError(f"{purpose} needs the compiled part of caffe_compat: {reason}")
    return module


def has_cuda() -> bool:
    """Whether the extension is there and was built with its CUDA kernels."""
    module = load()
    return module is not None and bool(module.has_cuda)


def fake_kernel(operator: str) -> Callable[[Function], Function]:
    """Decorator: the shapes and dtypes of ``torch.ops.caffe_compat.<operator>``'s results, for torch.compile.

    Does nothing without the extension, whose operators do not exist then.
    """

    def register(function: Function) -> Function:
        if load() is not None:
            import torch

            torch.library.register_fake(f"caffe_compat::{operator}", function)
        return function

    return register


def cpu_kernel(operator: str) -> Callable[[Function], Function]:
    """Decorator: what ``torch.ops.caffe_compat.<operator>`` does on the CPU, for operators compiled for CUDA alone."""

    def register(function: Function) -> Function:
        if load() is not None:
            import torch

            torch.library.impl(f"caffe_compat::{operator}", "CPU", function)
        return function

    return register


def plain_twin(operator: str) -> Callable[[Function], Function]:
    """Decorator: what ``torch.ops.caffe_compat.<operator>`` computes, from its own arguments, in PyTorch's operators.

    What an exported program holds in its place, so that PyTorch alone can run it.
    """

    def register(function: Function) -> Function:
        _plain_twins[operator] = function
        return function

    return register


def plain_twins() -> dict[Any, Callable[..., Any]]:
    """{operator: its twin}, as ``ExportedProgram.run_decompositions`` takes it; empty without the extension."""
    if load() is None:
        return {}
    import torch

    return {getattr(torch.ops.caffe_compat, name).default: twin for name, twin in _plain_twins.items()}
