"""Layer types by Caffe's names.  ``@register("ReLU")`` is all that a new layer needs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from caffe_compat.errors import NetError

if TYPE_CHECKING:
    from caffe_compat.layers.base import Layer

LayerClass = TypeVar("LayerClass", bound="type[Layer]")

_types: dict[str, "type[Layer]"] = {}


def register(type_name: str) -> Callable[[LayerClass], LayerClass]:
    """Class decorator: make the class known as layer type ``type_name``.

    Raises NetError when the name is taken by another class.
    """

    def add(cls: LayerClass) -> LayerClass:
        known = _types.get(type_name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise NetError(f'layer type "{type_name}" is already registered by {known.__module__}')
        _types[type_name] = cls
        cls.type = type_name
        return cls

    return add


def registered() -> dict[str, "type[Layer]"]:
    """The types of all modules imported so far; ``caffe_compat.net.layer_types()`` imports our own first."""
    return dict(_types)
