"""Starts one process per device, as torchrun does, and passes signals on."""

import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from caffe_compat.errors import SolverError

FORWARDED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))  # Windows: one


def launch(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    count: int,
    forwarded: Iterable[signal.Signals] = FORWARDED,
) -> int:
    """Run ``function(*arguments)`` in ``count`` processes with RANK, WORLD_SIZE, ... set; returns the exit status.

    The signals ``forwarded`` go to the first process, which tells the others; when one process fails all are ended.
    ``function`` must be importable by name and end with ``sys.exit(status)``.  Raises SolverError where a signal ended
    a process, which could say nothing itself.  (torchrun's own launcher would end the processes at SIGINT.)
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # late: some builds of PyTorch have none

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # the processes meet here
    context = start_processes(
        _enter, args=(function, arguments, count, store.port), nprocs=count, join=False, start_method="spawn"
    )
    assert context is not None  # join=False returns at once

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(context.pids()[0], number)

    before = {number: signal.signal(number, forward) for number in forwarded}
    try:
        while not context.join():
            pass
    except ProcessExitedException as error:
        if error.signal_name is not None:
            raise SolverError(f"process {error.error_index} of {count} was ended by {error.signal_name}") from None
        return error.exit_code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _enter(rank: int, function: Callable[..., None], arguments: tuple[Any, ...], count: int, port: int) -> None:
    set_environment(rank, count, port)
    function(*arguments)


def set_environment(rank: int, count: int, port: int) -> None:
    """Tell torch.distributed which of ``count`` processes on this machine this one is, as torchrun does.

    ``port``: of the launcher's TCPStore, which they join.
    """
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
