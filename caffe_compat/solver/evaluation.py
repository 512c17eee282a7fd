"""A test net run over its batches."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.precision import autocast
from caffe_compat.solver.log import Score
from caffe_compat.solver.scores import make_scores


def evaluate(
    net: Net, batches: int, *, precision: str, compute_loss: bool, interrupted: Callable[[], bool]
) -> tuple[float | None, list[Score]] | None:
    """(mean loss or None, mean of every number in the outputs) over ``batches`` forward passes.

    ``compute_loss``: whether the loss is wanted.  ``interrupted`` is asked before each batch; None when it says yes.
    """
    total: Tensor | None = None
    outputs: Mapping[str, Tensor] = {}
    loss = torch.zeros((), dtype=torch.float64)
    for _ in range(batches):
        if interrupted():
            return None
        outputs, batch_loss = forward(net, precision)
        values = [outputs[name].detach().reshape(-1) for name in net.outputs]
        flat = torch.cat(values) if values else torch.zeros(0)
        total = flat.clone() if total is None else total + flat
        if compute_loss:
            loss = loss.to(batch_loss.device) + batch_loss.detach()
    means = [] if total is None else (total / batches).tolist()
    return float(loss) / batches if compute_loss and batches else None, make_scores(net, outputs, means)


def forward(net: Net, precision: str) -> tuple[Mapping[str, Tensor], Tensor]:
    """A forward pass without gradients: (output blobs, loss)."""
    with torch.no_grad(), autocast(net.device, precision):
        return net.forward_with_loss()
