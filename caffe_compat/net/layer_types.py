"""Every layer type there is: those of the two folders of layer files, and what users have registered."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from caffe_compat import layers
from caffe_compat.data import layers as data_layers
from caffe_compat.layers.base import Layer
from caffe_compat.layers.registry import registered


def layer_types() -> dict[str, type[Layer]]:
    """All known layer types, including the user's own: {Caffe's type name: class}."""
    _import_own()
    return registered()


@cache
def _import_own() -> None:
    for package in (layers, data_layers):
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
