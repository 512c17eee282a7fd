"""What is checked of a layer before it is set up: known type, blob counts, fields read."""

import difflib
from collections.abc import Iterable

from caffe_compat.errors import NetError, ProtoError, printable
from caffe_compat.layers.base import Layer
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import Source, caffe_pb2, fork_of_field, fork_of_layer_type, read_net_with_source
from caffe_compat.proto.extend import added_fields
from caffe_compat.proto.source import FilePath
from caffe_compat.proto.unknown_names import UnknownNamesError

#: types of forks that compute what a type of ours computes
ALIASES = {
    "ConvolutionRistretto": "Convolution",
    "DeconvolutionRistretto": "Deconvolution",
    "FcRistretto": "InnerProduct",
    "HSwish": "HardSwish",
    "LRNRistretto": "LRN",
}
#: fields of forks that Caffe has under another name
RENAMED = {
    "convolution_param.hole": "dilation",
    "convolution_param.hole_h": "dilation",
    "convolution_param.hole_w": "dilation",
}
_NOBODY = "no fork known here"
_MOST_PLACES = 3  # of one type or field


def read_known_net(source: FilePath | caffe_pb2.NetParameter) -> tuple[caffe_pb2.NetParameter, Source]:
    """``read_net_with_source``; where the text has unknown names, the error lists the unknown layer types, too."""
    try:
        return read_net_with_source(source)
    except UnknownNamesError as error:
        if error.net is None:
            raise
        place = Source(str(source))
        unknown, unread = _unknown_types(error.net, layer_types()), _unread_fields(error.net, layer_types())
        if not unknown and not unread:
            raise
        said = _said(unknown, unread, layer_types())
        raise ProtoError(
            f"{place.name}: fields and values that are unknown here: {error.said}. {said}; for fields of a fork pass "
            "its caffe.proto with --schema"
        ) from None


def check_layers(net_param: caffe_pb2.NetParameter, types: dict[str, type[Layer]], source: Source) -> None:
    """Raise one NetError that names every layer whose type is unknown, and every field of a fork that a layer of ours
    would not read."""
    unknown, unread = _unknown_types(net_param, types), _unread_fields(net_param, types)
    if not unknown and sum(map(len, unread.values())) < 2:  # one field is refused by its layer, with its place
        return
    if not unread and sum(map(len, unknown.values())) == 1:
        ((name, (layer,)),) = unknown.items()
        raise NetError(
            f'1 layer(s) of unknown type: {source.layer(layer.name)} has type "{name}"{_hint(name, types)}. {_REGISTER}'
        )
    raise NetError(f"{source.name}: {_said(unknown, unread, types, source)}")


_REGISTER = 'Register your own with @caffe_compat.register("Type"), or use a Python layer'
_Layers = dict[str, list[caffe_pb2.LayerParameter]]


def _unknown_types(net_param: caffe_pb2.NetParameter, types: Iterable[str]) -> _Layers:
    found: _Layers = {}
    for layer in net_param.layer:
        if layer.type not in types:
            found.setdefault(layer.type, []).append(layer)
    return found


def _unread_fields(net_param: caffe_pb2.NetParameter, types: dict[str, type[Layer]]) -> _Layers:
    """By field; layers of the user's own classes read what they like."""
    found: _Layers = {}
    for layer in net_param.layer:
        if layer.type in types:
            for name in unread_fork_fields(types[layer.type], layer):
                found.setdefault(name, []).append(layer)
    return found


def _said(unknown: _Layers, unread: _Layers, types: Iterable[str], source: Source | None = None) -> str:
    parts, cures = [], []
    if unknown:
        items = [(fork_of_layer_type(name), name, _hint(name, types, fork=False)) for name in unknown]
        count = sum(map(len, unknown.values()))
        parts.append(f"{count} layer(s) of unknown type: {_grouped(items, unknown, source)}")
        cures.append(_REGISTER)
    if unread:
        fields = [(fork_of_field(*_owner(name)), name, _rename(name)) for name in unread]
        count = sum(map(len, unread.values()))
        parts.append(f"{count} field(s) of forks that no layer of ours reads: {_grouped(fields, unread, source)}")
        cures.append("remove such a field, or register a layer type of your own that reads it")
    return "; ".join(parts) + ". " + "; ".join(cures)


def _grouped(items: Iterable[tuple[str | None, str, str]], layers: _Layers, source: Source | None) -> str:
    """``of SSD: "A" (layer "x" at line 3, ...), "B" (...); of NVCaffe: ...``"""
    groups: dict[str, list[str]] = {}
    for fork, name, hint in items:
        found = layers[name]
        places = [_place(layer.name, source) for layer in found[:_MOST_PLACES]]
        more = f" and {len(found) - _MOST_PLACES} more" if len(found) > _MOST_PLACES else ""
        groups.setdefault(fork or _NOBODY, []).append(f'"{name}" ({", ".join(places)}{more}{hint})')
    return "; ".join(f"of {fork}: {', '.join(named)}" for fork, named in groups.items())


def _place(layer: str, source: Source | None) -> str:
    """``layer "x" at line 3``."""
    where = source.layer(layer).removeprefix(source.name).partition(": ")[0].removeprefix(":") if source else ""
    return f'layer "{printable(layer)}"' + (f" at line {where}" if where else "")


def _owner(field: str) -> tuple[str, str]:
    """The name alone of ``pooling_param.ceil_mode``, and PoolingParameter."""
    scope, _, name = field.partition(": ")[0].rpartition(".")
    message = caffe_pb2.LayerParameter.DESCRIPTOR
    for part in filter(None, scope.split(".")):
        inner = message.fields_by_name[part].message_type
        assert inner is not None
        message = inner
    return name, message.name


def _rename(field: str) -> str:
    return f"; write {RENAMED[field]}" if field in RENAMED else ""


def _hint(name: str, types: Iterable[str], fork: bool = True) -> str:
    """What is known of a type: its fork, the type of ours that does the same, one that is spelt nearly so."""
    if ALIASES.get(name, "") in types:
        return f' (write "{ALIASES[name]}")' if fork else f'; write "{ALIASES[name]}"'
    home = fork_of_layer_type(name)
    if home:
        return f" (a layer of {home})" if fork else ""
    lower = {known.lower(): known for known in types}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    if not close:
        return ""
    return f" (did you mean {lower[close[0]]}?)" if fork else f"; did you mean {lower[close[0]]}?"


def check_blob_counts(layer: Layer, bottoms: int, tops: int) -> None:
    """Raise NetError unless the layer has as many bottoms and tops as its type takes."""
    for what, number, (least, most) in (
        ("bottom", bottoms, layer.bottom_count),
        ("top", tops, layer.top_count),
    ):
        if number < least or (most is not None and number > most):
            if least == most:
                wanted = f"exactly {least}"
            else:
                wanted = f"at least {least}" if most is None else f"{least} to {most}"
            layer.fail(f"has {number} {what} blob(s); {layer.type} takes {wanted}")
    if layer.equal_counts and bottoms != tops:
        layer.fail(f"has {bottoms} bottoms and {tops} tops; {layer.type} makes one top for each bottom")


def warn_unread_fields(layer: Layer) -> None:
    """Warn about ``*_param`` messages that are set but that this layer type does not read."""
    for descriptor, _ in layer.param.ListFields():
        if descriptor.name.endswith("_param") and descriptor.name not in layer.param_fields:
            layer.warn(f"field {descriptor.name} has no effect on a {layer.type} layer; remove it or fix the type")


def unread_fork_fields(kind: type[Layer], param: caffe_pb2.LayerParameter) -> list[str]:
    """Fields and enum values of a fork, or of ``--schema``, that are set and that a layer type of ours would not read.

    A ``*_param`` message that the type does not read draws a warning instead, like those of Caffe.  A user's own layer
    class reads what it likes.
    """
    if not kind.__module__.startswith("caffe_compat."):
        return []
    return [
        name
        for name in added_fields(param)
        if name not in kind.fork_fields and ("." in name or not name.endswith("_param"))
    ]


def check_fork_fields(layer: Layer) -> None:
    """Raise NetError for a field or an enum's value that ``unread_fork_fields`` finds."""
    for name in unread_fork_fields(type(layer), layer.param):
        rename = f"; Caffe calls it {RENAMED[name]}" if name in RENAMED else ""
        layer.fail(
            f"{name} is no field of Caffe 1.0 but of a fork or of --schema, and no {layer.type} layer of ours "
            f"reads it{rename}; remove it, or register a layer type of your own that does"
        )
