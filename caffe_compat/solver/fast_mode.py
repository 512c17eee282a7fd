"""What the solver's fast mode sets up: fused layers, batches made on the device, CUDA graphs."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.memory import keep_freed_memory
from caffe_compat.net import Net
from caffe_compat.precision import autocast
from caffe_compat.solver.graphs import CudaRecorder, GraphedStep, Recorder, obstacle
from caffe_compat.solver.log import Log
from caffe_compat.solver.parallel import Parallel
from caffe_compat.solver.rules import Rule
from caffe_compat.solver.train_step import RecordedStep, TrainStep


def make_fast(nets: Iterable[Net], precision: str) -> None:
    """Let nets run the chains that have an operator of their own as one, and set the device up for speed.

    On the CPU freed memory stays with the process (``caffe_compat.memory``).  On CUDA Data layers transform on the
    device (the same numbers), cuDNN measures its algorithms (process-wide), and in bf16 the blobs are channels_last,
    which tensor cores want.
    """
    for net in nets:
        net.fast = True
        if net.device.type == "cpu":
            keep_freed_memory()
        if net.device.type != "cuda":
            continue
        torch.backends.cudnn.benchmark = True
        if precision == "bf16":
            net.to(memory_format=torch.channels_last)
        for layer in net.sources():
            if isinstance(layer, SourceLayer):
                layer.make_batches_on(net.device)


def fast_step(
    net: Net, optimizer: Rule, *, debug_info: bool, parallel: Parallel, precision: str, log: Log
) -> TrainStep | None:
    """The training step as CUDA graphs; None, and a line in the log that says why, where something is in the way."""
    reason = obstacle(net, debug_info, parallel.count)
    if reason is not None:
        log.graphs(f"Fast mode without CUDA graphs: {reason}")
        return None
    return recorded_step(net, optimizer, CudaRecorder(net.device), precision=precision, log=log)


def recorded_step(net: Net, optimizer: Rule, recorder: Recorder, *, precision: str, log: Log) -> RecordedStep:
    """The training step behind the recordings of ``recorder``."""

    def run(batch: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor]:
        with autocast(net.device, precision):
            return net.forward_with_loss(**batch)

    return RecordedStep(net, optimizer, GraphedStep(net, optimizer, run, recorder, log.graphs))
