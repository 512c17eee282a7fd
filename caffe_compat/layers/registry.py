"""Layer types by Caffe's names.  ``@register("ReLU")`` is all that a new layer needs."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from caffe_compat.errors import NetError

if TYPE_CHECKING:
    from caffe_compat.layers.base import Layer

_types: dict[str, type["Layer"]] = {}
_loaded = False


def register(type_name: str) -> Callable[[type["Layer"]], type["Layer"]]:
    """Class decorator: make the class known as layer type ``type_name``.

    Raises NetError when the name is taken by another class.
    """

    def add(cls: type["Layer"]) -> type["Layer"]:
        known = _types.get(type_name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise NetError(f'layer type "{type_name}" is already registered by {known.__module__}')
        _types[type_name] = cls
        cls.type = type_name
        return cls

    return add


def layer_types() -> dict[str, type["Layer"]]:
    """All known layer types, including the user's own: {Caffe's type name: class}."""
    global _loaded
    if not _loaded:
        package = import_module("caffe_compat.layers")
        for module in iter_modules(package.__path__):
            import_module(f"caffe_compat.layers.{module.name}")
        import_module("caffe_compat.data.layers")  # the layers that read databases and files
        _loaded = True
    return dict(_types)
