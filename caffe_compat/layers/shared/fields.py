"""Fields of a fork's message that another fork's layer of the same name reads."""

from caffe_compat.layers.base import Layer


def refuse_fields(layer: Layer, message: str, *fields: str, because: str) -> None:
    """Raise NetError where one of ``fields`` of the ``message`` of a layer is set.

    ``because``: whose they are, or what to do instead, the end of the error's sentence.
    """
    given = {descriptor.name for descriptor, _ in getattr(layer.param, message).ListFields()}
    unread = [field for field in fields if field in given]
    if unread:
        layer.fail(f"{message}.{', '.join(unread)}: {layer.type} here does not read it; {because}")
