"""What loss layers share: the check of their bottoms, and LossParameter's normalisation modes."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.shared.example import Dice
from caffe_compat.proto import caffe_pb2


def check_same_batch(layer: Layer, data: Shape, label: Shape) -> None:
    """Raise NetError unless both bottoms have the same first dimension."""
    if not data or not label or data[0] != label[0]:
        layer.fail(f"data has shape {data} and label {label}; expected the same first dimension")


def normalization_mode(loss_param: caffe_pb2.LossParameter) -> str:
    """FULL, VALID, BATCH_SIZE or NONE; the old ``normalize`` flag counts where it alone is set."""
    if not loss_param.HasField("normalization") and loss_param.HasField("normalize"):
        return "VALID" if loss_param.normalize else "BATCH_SIZE"
    return str(loss_param.NormalizationMode.Name(loss_param.normalization))


def normalizer(mode: str, outer: int, inner: int, valid: Tensor) -> Tensor:
    """The divisor, at least 1, as a scalar like ``valid`` (the number of terms not ignored).

    ``outer``: product of the axes before the class axis; ``inner``: of those after it.
    """
    if mode == "VALID":
        return torch.clamp(valid, min=1)
    size = {"FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode]
    return torch.full_like(valid, max(1, size))


def random_normalization(dice: Dice) -> str:
    """A field of LossParameter for ``Layer.example``."""
    return f"normalization: {dice.pick('FULL', 'VALID', 'BATCH_SIZE', 'NONE')}"


def deployed_softmax(param: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    """The Softmax that stands for a loss over one, in a net that is deployed."""
    form = caffe_pb2.LayerParameter(name="prob", type="Softmax", bottom=param.bottom[:1], top=["prob"])
    if param.HasField("softmax_param"):
        form.softmax_param.CopyFrom(param.softmax_param)
    return form
