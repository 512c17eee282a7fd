"""What elementwise layers share: one bottom, one top of the same shape, often in place.

Caffe's in-place layers overwrite their bottom, so a gradient formula that reads the bottom then
reads the top instead.  Here a bottom is never overwritten; the layers whose numbers depend on it
ask ``is_in_place`` and use the same point as Caffe.
"""

from caffe_compat.layers.base import Layer, Shape


class NeuronLayer(Layer):
    """Base of elementwise layers: a subclass adds ``forward``."""

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom]


def is_in_place(layer: Layer) -> bool:
    """True when the first top has the name of the first bottom."""
    bottoms, tops = layer.param.bottom, layer.param.top
    return bool(bottoms) and bool(tops) and bottoms[0] == tops[0]


def refuse_in_place(layer: Layer) -> None:
    """Raise NetError for an in-place layer of a type that Caffe does not run in place."""
    if is_in_place(layer):
        layer.fail(f'top "{layer.param.top[0]}" is the bottom too; {layer.type} cannot work in place, rename the top')


def warn_in_place_gradient(layer: Layer) -> None:
    """Warn in training about an in-place layer whose gradient Caffe gets wrong (we match it)."""
    if layer.phase == "TRAIN" and is_in_place(layer):
        layer.warn(
            f"its gradient in place is not that of {layer.type}, as in Caffe, where the bottom is gone by then; "
            "rename the top for the true gradient"
        )
