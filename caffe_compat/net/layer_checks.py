"""What is checked of a layer before it is set up: known type, blob counts, fields read."""

import difflib
from collections.abc import Iterable

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.proto import Source, caffe_pb2, fork_of_layer_type
from caffe_compat.proto.extend import added_fields


def check_layer_types(net_param: caffe_pb2.NetParameter, types: dict[str, type[Layer]], source: Source) -> None:
    """Raise one NetError that names every layer whose type is unknown."""
    unknown = [layer for layer in net_param.layer if layer.type not in types]
    if not unknown:
        return
    named = "; ".join(
        f'{source.layer(layer.name)} has type "{layer.type}"{_hint(layer.type, types)}' for layer in unknown
    )
    raise NetError(
        f"{len(unknown)} layer(s) of unknown type: {named}. "
        'Register your own with @caffe_compat.register("Type"), or use a Python layer'
    )


def _hint(name: str, types: Iterable[str]) -> str:
    fork = fork_of_layer_type(name)
    if fork:
        return f" (a layer of {fork})"
    lower = {known.lower(): known for known in types}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f" (did you mean {lower[close[0]]}?)" if close else ""


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


def check_fork_fields(layer: Layer) -> None:
    """Raise NetError for a field or an enum's value of a fork, or of ``--schema``, that a layer of ours would not read.

    A ``*_param`` message that the type does not read draws a warning instead, like those of Caffe.  A user's own layer
    class reads what it likes.
    """
    if not type(layer).__module__.startswith("caffe_compat."):
        return
    for name in added_fields(layer.param):
        if name not in layer.fork_fields and ("." in name or not name.endswith("_param")):
            layer.fail(
                f"{name} is no field of Caffe 1.0 but of a fork or of --schema, and no {layer.type} layer of ours "
                "reads it; remove it, or register a layer type of your own that does"
            )
