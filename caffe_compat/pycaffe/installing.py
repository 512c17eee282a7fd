"""``import caffe`` for scripts that were written for pycaffe."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_OURS = "caffe_compat.pycaffe"
_ELSEWHERE = {f"{_OURS}.pycaffe": f"{_OURS}._caffe"}  # Caffe's own file of that name


class _Alias(Loader):
    """Gives a module that exists already."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec


class _Finder(MetaPathFinder):
    """Finds ``caffe`` and what is below it in caffe_compat.pycaffe."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        first, dot, rest = fullname.partition(".")
        if first != "caffe":
            return None
        ours = _OURS + dot + rest
        ours = _ELSEWHERE.get(ours, ours)
        found = find_spec(ours)
        if found is None:
            return None
        return ModuleSpec(fullname, _Alias(ours), is_package=found.submodule_search_locations is not None)


def install() -> None:
    """Let ``import caffe``, ``from caffe.proto import caffe_pb2`` and the like give this package, for this process.

    A Caffe that has been imported before stays what it is.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
