"""pycaffe's ``NetSpec``: nets written in Python.

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.conv = L.Convolution(n.data, kernel_size=3, num_output=4)
    n.relu = L.ReLU(n.conv, in_place=True)
    n.to_proto()  # a NetParameter; attributes are the names of blobs and layers

A keyword is a field of the layer's own message (``kernel_size``), of the layer (``name``, ``loss_weight``), or any
``*_param``; dicts become messages, lists repeated fields.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from caffe_compat.errors import NetError
from caffe_compat.proto import caffe_pb2


class FieldError(NetError, AttributeError):
    """A keyword that is no field of the layer; scripts catch AttributeError."""


def param_name_dict() -> dict[str, str]:
    """{"Convolution": "convolution", ...}: layer types and the names of their messages, without ``_param``."""
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields
    return {
        f.message_type.name.removesuffix("Parameter"): f.name.removesuffix("_param")
        for f in fields
        if f.name.endswith("_param") and f.message_type is not None
    }


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """Set a field of a message from Python values: dicts are messages, lists repeated fields (one value may stand for
    a list of one)."""
    if name not in proto.DESCRIPTOR.fields_by_name:
        raise FieldError(f"{proto.DESCRIPTOR.name} has no field {name!r}")
    value = getattr(proto, name)
    if hasattr(value, "extend"):
        for item in val if isinstance(val, list | tuple) else [val]:
            if isinstance(item, dict):
                _assign_all(value.add(), item)
            else:
                value.append(item)
    elif isinstance(val, dict):
        value.SetInParent()
        _assign_all(value, val)
    elif hasattr(value, "CopyFrom"):
        value.CopyFrom(val)
    else:
        setattr(proto, name, val)


def _assign_all(proto: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(proto, name, value)


class Top:
    """Output ``n`` of a layer."""

    def __init__(self, fn: "Function", n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all layers that this output needs."""
        return to_proto(self)


class Function:
    """A layer: its type, the outputs that it reads, and its fields."""

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict[str, Any]) -> None:
        for i, item in enumerate(inputs):
            if not isinstance(item, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(item)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all layers that this one needs, and itself."""
        return to_proto(self)


class _Writer:
    """Layers in the order in which they need each other; names that nobody gave are the type and a number."""

    def __init__(self, names: dict[Top | Function, str]) -> None:
        self.names = names
        self.numbers: Counter[str] = Counter()
        self.layers: OrderedDict[Function, caffe_pb2.LayerParameter] = OrderedDict()

    def add(self, fn: Function) -> None:
        # Not by recursion: nets are deeper than Python's stack.
        waiting = [fn]
        while waiting:
            fn = waiting[-1]
            missing = [top.fn for top in fn.inputs if top.fn not in self.layers]
            if fn not in self.layers and missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if fn not in self.layers:
                self.layers[fn] = self._layer(fn)

    def _layer(self, fn: Function) -> caffe_pb2.LayerParameter:
        layer = caffe_pb2.LayerParameter(type=fn.type_name)
        layer.bottom.extend(self.layers[top.fn].top[top.n] for top in fn.inputs)
        layer.top.extend(layer.bottom if fn.in_place else [self._name(top, fn) for top in fn.tops])
        layer.name = self._name(fn.tops[0] if fn.tops else fn, fn)
        own = _PARAM_NAMES.get(fn.type_name, "") + "_param"
        for name, value in fn.params.items():
            own_fields = getattr(layer, own).DESCRIPTOR.fields_by_name if own != "_param" else {}
            if not name.endswith("param") and name in own_fields:
                assign_proto(getattr(layer, own), name, value)
            else:
                assign_proto(layer, name, value)
        return layer

    def _name(self, item: Top | Function, fn: Function) -> str:
        if item not in self.names:
            self.numbers[fn.type_name] += 1
            self.names[item] = f"{fn.type_name}{self.numbers[fn.type_name]}"
        return self.names[item]

    def net(self) -> caffe_pb2.NetParameter:
        return caffe_pb2.NetParameter(layer=self.layers.values())


def to_proto(*tops: Top | Function) -> caffe_pb2.NetParameter:
    """The net of all layers that the given outputs need."""
    writer = _Writer({})
    for top in tops:
        writer.add(top.fn if isinstance(top, Top) else top)
    return writer.net()


class NetSpec:
    """Outputs of layers by name, set as attributes or items; ``to_proto`` gives the net."""

    tops: "OrderedDict[str, Top | Function]"

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name not in self.tops:
            raise AttributeError(f"NetSpec: no top {name!r}; there are {', '.join(self.tops) or 'none'}")
        return self.tops[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Any:
        if name not in self.tops:
            raise KeyError(f"NetSpec: no top {name!r}; there are {', '.join(self.tops) or 'none'}")
        return self.tops[name]

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net; layers and blobs have the names of the attributes."""
        writer = _Writer({top: name for name, top in self.tops.items()})
        for top in self.tops.values():
            writer.add(top.fn if isinstance(top, Top) else top)
        return writer.net()


class Layers:
    """``layers.Convolution(bottom, kernel_size=3, ntop=1)`` and so on, for every type: the layer's output, its outputs
    (``ntop`` of several), or the layer itself (``ntop=0``)."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*inputs: Top, **params: Any) -> Any:
            fn = Function(name, inputs, params)
            return {0: fn, 1: fn.tops[0] if fn.tops else None}.get(fn.ntop, fn.tops)

        return layer


class Parameters:
    """``params.Pooling.MAX`` and so on: the enum values of layers' messages."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(caffe_pb2, f"{name}Parameter")


_PARAM_NAMES = param_name_dict()
layers = Layers()
params = Parameters()
