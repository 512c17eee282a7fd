"""Several devices that train one net together: torch.distributed with Caffe's semantics.

Every rank reads its own share of the data with the file's batch_size, gradients are averaged over the ranks, and
rank 0 displays, tests and snapshots.  NCCL on CUDA, gloo on the CPU.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from caffe_compat.errors import SolverError
from caffe_compat.net import Net
from caffe_compat.solver.signals import ACTIONS

TrainPass = Callable[..., tuple[dict[str, Tensor], Tensor]]

#: how long the other ranks may wait for rank 0's test passes and snapshots
_PATIENCE = timedelta(hours=12)
_WHOLE_NET_MB = 1 << 20  # one bucket: nothing is sent before the backward pass has ended
_BUCKET_MB = 25


@dataclass
class Parallel:
    """This process among ``count`` that train together."""

    rank: int = 0
    count: int = 1
    control: Any = None  # a gloo group: messages between the processes that use no device

    @property
    def is_root(self) -> bool:
        """Whether this process logs, tests and writes snapshots."""
        return self.rank == 0

    def wrap(self, net: Net, overlap: bool = True) -> TrainPass:
        """A pass of ``net`` whose backward averages the gradients over all ranks; rank 0's parameters win.

        ``overlap``: send gradients while the backward pass still runs (layer_wise_reduce).
        """
        if self.count == 1:
            return net.forward_with_loss
        if not any(p.requires_grad for p in net.parameters()):
            return net.forward_with_loss
        with warnings.catch_warnings():
            # Newer torch has another name for broadcast_buffers, which the older ones lack.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")
            return DistributedDataParallel(
                _PassModule(net),
                device_ids=[net.device] if net.device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                bucket_cap_mb=_BUCKET_MB if overlap else _WHOLE_NET_MB,
            )

    @contextmanager
    def accumulating(self, train_pass: TrainPass, *, last: bool) -> Iterator[None]:
        """Within: passes add to the gradients; they are averaged over the ranks in the last one."""
        if last or not isinstance(train_pass, DistributedDataParallel):
            yield
        else:
            with train_pass.no_sync():
                yield

    def average(self, gradients: Iterable[Tensor]) -> None:
        """Average tensors over the ranks, for passes that ``wrap`` does not cover."""
        for gradient in gradients if self.count > 1 else ():
            dist.all_reduce(gradient)
            gradient.div_(self.count)

    def agree(self, action: str) -> str:
        """The strongest action that any rank asks for, so that all stop or snapshot together."""
        if self.count == 1:
            return action
        word = torch.tensor(ACTIONS.index(action))
        dist.all_reduce(word, op=dist.ReduceOp.MAX, group=self.control)
        return ACTIONS[int(word)]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's ``value`` on the root; an empty list elsewhere."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_root else None
        dist.gather_object(value, values, group=self.control)
        return values or []


SINGLE = Parallel()


class _PassModule(nn.Module):
    """The net's training pass as a module's ``forward``, which DistributedDataParallel wraps."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self) -> tuple[dict[str, Tensor], Tensor]:
        return self.net.forward_with_loss()


def is_launched() -> bool:
    """Whether torchrun (or ``spawn``) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: torch.device) -> Iterator[Parallel]:
    """Join the processes that the environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield Parallel(dist.get_rank(), dist.get_world_size(), control)
    finally:
        dist.destroy_process_group()


def local_device(gpus: list[int]) -> torch.device:
    """The device of this rank among those of its machine: ``gpus[LOCAL_RANK]``, or the CPU without ``gpus``.

    Raises SolverError when there are fewer devices than processes.
    """
    if not gpus:
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= len(gpus):
        raise SolverError(f"process {local} of this machine has no device: --gpu names {len(gpus)}")
    return torch.device("cuda", gpus[local])
