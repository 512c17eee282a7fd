"""pycaffe's ``NCCL``: several processes that train one net, over torch.distributed (gloo where there is no GPU)."""

import atexit
import os
from collections.abc import Iterable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.net import Net as CoreNet
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe import mode
from caffe_compat.pycaffe.net import Net
from caffe_compat.solver.parallel import Parallel, TrainPass

#: where groups meet that this process has named; they live as long as it does
_STORES: list[Any] = []


class Trainer(Protocol):
    """What ``NCCL`` asks of a solver."""

    net: Net

    @property
    def param(self) -> caffe_pb2.SolverParameter: ...


def has_nccl() -> bool:
    """Whether processes can train together here."""
    return dist.is_available()


class Independent(Parallel):
    """This process among those that share the data; whoever wants the gradients averaged adds an ``NCCL``."""

    def wrap(self, net: CoreNet, overlap: bool = True) -> TrainPass:
        return net.forward_with_loss

    def average(self, gradients: Iterable[Tensor]) -> None:
        pass

    def agree(self, action: str) -> str:
        return action

    def gather(self, value: Any) -> list[Any]:
        return [value]


class NCCL:
    """Joins ``solver`` to the other processes with the same ``uid``: ``set_solver_count`` of them, this one being
    ``set_solver_rank``.  Add it to the solver with ``add_callback``; with layer_wise_reduce also to
    ``solver.net.after_backward``."""

    def __init__(self, solver: Trainer, uid: bytes | str) -> None:
        address = uid.decode() if isinstance(uid, bytes) else uid
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not address.startswith("tcp://") or not host or not port.isdigit():
            raise SolverError(f"NCCL: the uid is {uid!r}; expected what NCCL.new_uid() gave to the first process")
        self._solver = solver
        self._count = mode.solver_count()
        if not dist.is_initialized():
            backend = "nccl" if mode.device().type == "cuda" else "gloo"
            store = _tcp_store(host, int(port), is_master=False)
            dist.init_process_group(backend, store=store, rank=mode.solver_rank(), world_size=self._count)
            atexit.register(_leave_group)  # its threads must end before the process does, or they end it

    @staticmethod
    def new_uid() -> bytes:
        """A name for one group of processes, for the first to make and all to get.

        The process that makes it must run until the others have joined; MASTER_ADDR is its name for other machines.
        """
        _STORES.append(_tcp_store("localhost", 0, is_master=True))
        return f"tcp://{os.environ.get('MASTER_ADDR', '127.0.0.1')}:{_STORES[-1].port}".encode()

    def bcast(self) -> None:
        """Give all processes the parameters of rank 0."""
        self._solver.net.engine.flush()
        with torch.no_grad():
            for parameter in self._solver.net.core.parameters():
                dist.broadcast(parameter.data, 0)

    def __call__(self, layer: int) -> None:
        """Average the gradients of one layer, just after its backward (layer_wise_reduce)."""
        blobs = self._solver.net.engine.params[layer]
        self._average([blob.diff for blob in blobs if blob.parameter.grad is not None])

    def on_gradients_ready(self) -> None:
        """Average all gradients, where that has not been done layer by layer."""
        if not self._solver.param.layer_wise_reduce:
            parameters = self._solver.net.core.parameters()
            self._average([parameter.grad for parameter in parameters if parameter.grad is not None])

    def _average(self, gradients: list[Tensor]) -> None:
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient.div_(self._count)


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _tcp_store(host: str, port: int, *, is_master: bool) -> Any:
    """PyTorch's store at which processes meet: its server (port 0: one that is free), or a client of it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # late: some builds of PyTorch have none

    return TCPStore(host, port, is_master=is_master, wait_for_workers=False)
