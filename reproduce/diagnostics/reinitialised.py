"""Each layer of a trained network put back to its initial values, alone: how much does it then get right?

Zhang, Bengio and Singer, *Are All Layers Created Equal?*, 2019.
"""

import warnings
from collections.abc import Iterator
from contextlib import chdir

import torch
from torch import Tensor

from caffe_compat import Solver, random
from caffe_compat.solver import Log
from reproduce.diagnostics.trained_network import TrainedNetwork


def initial_values(trained: TrainedNetwork) -> dict[str, list[tuple[int, Tensor]]]:
    """{layer: [(number of the parameter, its values before the first update)]}, of what is learned.

    They are those that the seed in the network's solver file gives, drawn once more as training draws them.  Running
    averages of BatchNorm are not learned, and left out.
    """
    with chdir(trained.folder), random.scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they stand in the network's log
        solver = Solver("solver.prototxt", device="cpu", log=Log(enabled=False))
        solver.close()
    found: dict[str, list[tuple[int, Tensor]]] = {}
    for learned in solver.net.learnable:
        if learned.lr_mult:
            values = learned.parameter.detach().to(trained.device)
            found.setdefault(learned.layer, []).append((learned.index, values))
    return found


@torch.no_grad()
def reinitialised_accuracies(trained: TrainedNetwork) -> Iterator[tuple[str, float]]:
    """(layer, accuracy with that layer as it was drawn and all others as trained), from the input on.

    Layers that only scale and shift go with the one before them.
    """
    initial = initial_values(trained)
    params = trained.net.params
    for group in (*trained.learned.cuts, *((name,) for name in trained.learned.classifiers)):
        if group[0] not in params:
            continue  # a classifier that is there in training only
        places = [(params[name][i], values) for name in group for i, values in initial.get(name, [])]
        kept = [parameter.clone() for parameter, _ in places]
        for parameter, values in places:
            parameter.copy_(values)
        yield group[0], trained.accuracy()
        for (parameter, _), values in zip(places, kept, strict=True):
            parameter.copy_(values)
