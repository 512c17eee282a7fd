"""Names of a package that are imported at their first use, so that who needs few of them waits for few."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package (PEP 562); ``homes``: of each name its module in ``caffe_compat``.

    What type checkers are to know of the names, the package imports under ``TYPE_CHECKING``.
    """

    def get(name: str) -> Any:
        if name in homes:
            return getattr(import_module(f"caffe_compat.{homes[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
