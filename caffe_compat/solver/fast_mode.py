"""What the solver's fast mode does to nets: fused layers, batches made on the device.  CUDA graphs are a TrainStep."""

from collections.abc import Iterable

import torch

from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.memory import keep_freed_memory
from caffe_compat.net import Net


def make_fast(nets: Iterable[Net]) -> None:
    """Let nets run the chains that have an operator of their own as one, and set the device up for speed.

    On the CPU freed memory stays with the process (``caffe_compat.memory``).  On CUDA Data layers transform on the
    device (the same numbers), cuDNN measures its algorithms (process-wide), and parameters are channels_last, as the
    blobs of a tower are (``net/tower.py``).
    """
    for net in nets:
        net.fast = True
        if net.device.type == "cpu":
            keep_freed_memory()
        if net.device.type != "cuda":
            continue
        torch.backends.cudnn.benchmark = True
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        for layer in net.sources():
            if isinstance(layer, SourceLayer):
                layer.make_batches_on(net.device)
