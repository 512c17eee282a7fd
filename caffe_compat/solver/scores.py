"""Names for the numbers in a net's outputs."""

from collections.abc import Mapping

from torch import Tensor

from caffe_compat.net import Net


def score_names(net: Net, outputs: Mapping[str, Tensor]) -> list[tuple[str, float]]:
    """(blob name, loss weight) of every number in ``outputs``, in Caffe's order."""
    weights = {
        net.blob_names[index]: weight
        for step in net.steps
        for index, weight in zip(step.tops, step.loss_weights, strict=True)
    }
    return [(name, weights[name]) for name in net.outputs if name in outputs for _ in range(outputs[name].numel())]
