"""Starts one process per device, as torchrun does, and passes signals on."""

import os
import signal
import socket
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from torch.multiprocessing.spawn import ProcessExitedException, start_processes

FORWARDED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))  # Windows: one


def launch(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    count: int,
    forwarded: Iterable[signal.Signals] = FORWARDED,
) -> int:
    """Run ``function(*arguments)`` in ``count`` processes with RANK, WORLD_SIZE, ... set; returns the exit status.

    The signals ``forwarded`` go to the first process, which tells the others; when one process fails all are ended.
    ``function`` must be importable by name and end with ``sys.exit(status)``.
    """
    port = free_port()
    context = start_processes(
        _enter, args=(function, arguments, count, port), nprocs=count, join=False, start_method="spawn"
    )
    assert context is not None  # join=False returns at once

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(context.pids()[0], number)

    before = {number: signal.signal(number, forward) for number in forwarded}
    try:
        while not context.join():
            pass
    except ProcessExitedException as error:
        return error.exit_code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _enter(rank: int, function: Callable[..., None], arguments: tuple[Any, ...], count: int, port: int) -> None:
    set_environment(rank, count, port)
    function(*arguments)


def set_environment(rank: int, count: int, port: int) -> None:
    """Tell torch.distributed which of ``count`` processes on this machine this one is."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
