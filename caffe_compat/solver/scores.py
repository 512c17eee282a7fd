"""Names for the numbers in a net's outputs."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.solver.log import Score


def score_names(net: Net, outputs: Mapping[str, Tensor]) -> list[tuple[str, float]]:
    """(blob name, loss weight) of every number in ``outputs``, in Caffe's order."""
    weights = {
        net.blob_names[index]: weight
        for step in net.steps
        for index, weight in zip(step.tops, step.loss_weights, strict=True)
    }
    return [(name, weights[name]) for name in net.outputs if name in outputs for _ in range(outputs[name].numel())]


def make_scores(net: Net, outputs: Mapping[str, Tensor], values: Sequence[float]) -> list[Score]:
    """``values``, one for every number in ``outputs``, with their names and weights."""
    return [Score(name, value, weight) for (name, weight), value in zip(score_names(net, outputs), values, strict=True)]
