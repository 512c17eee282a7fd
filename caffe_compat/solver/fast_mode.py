"""What the solver's fast mode sets up: fused layers, batches made on the device, CUDA graphs."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.memory import keep_freed_memory
from caffe_compat.net import Net
from caffe_compat.precision import autocast
from caffe_compat.solver.graphs import CudaRecorder, GraphedStep, Recorder, obstacle

if TYPE_CHECKING:
    from caffe_compat.solver.solver import Solver


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


def graphed_step(solver: "Solver", recorder: Recorder | None = None) -> GraphedStep | None:
    """The solver's training step behind recordings: CUDA graphs where nothing is in the way, else (as the log says)
    None; or those of another ``recorder``.
    """

    def say(message: str) -> None:
        solver.log.graphs(message)

    def run(batch: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor]:
        with autocast(solver.device, solver.precision):
            return solver.net.forward_with_loss(**batch)

    if recorder is None:
        reason = obstacle(solver.net, solver.param.debug_info, solver.parallel.count)
        if reason is not None:
            say(f"Fast mode without CUDA graphs: {reason}")
            return None
        recorder = CudaRecorder(solver.device)
    return GraphedStep(solver.net, solver.optimizer, run, recorder, say)
