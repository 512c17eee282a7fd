"""Trains the networks of a plan, each after the one it starts from, by whatever starts processes for them.

Everything that a process needs is in the network's folder, so that a ``Runner`` (``local_processes``, ``ray_tasks``,
``slurm_jobs``) only starts ``train_one`` for folders and says what became of them.  Several of these loops, on several
machines, may share a folder: a network whose lease another process has is left to it.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from caffe_compat.errors import CaffeCompatError
from reproduce.lease import holder, server_time
from reproduce.network import Network
from reproduce.results import DONE, note_failure

POLL_S = 0.5
#: where nothing is left to do but to wait for what others train
OTHERS_POLL_S = 2.0
#: exit codes of a process that trains one network
TRAINED, FAULT, WRONG_INPUT, ELSEWHERE, LEFT = 0, 1, 2, 3, 4

#: how long such a process that was started apart from the others waits, in leases, for a network whose holder was lost
WAIT = 1.5


@dataclass(frozen=True)
class Outcome:
    """What became of a network that a process trained: ``train_one``'s exit code, and one line where it is not 0."""

    code: int
    why: str = ""


def is_done(network: Network, out: Path) -> bool:
    """Whether the network has been trained to its end."""
    return (out / network.name / DONE).exists()


def ready(networks: Sequence[Network], out: Path) -> list[Network]:
    """Those that are not done and whose base network is, in the plan's order."""
    done = {network.name for network in networks if is_done(network, out)}
    return [n for n in networks if n.name not in done and (not n.base_network or n.base_network in done)]


@dataclass(frozen=True)
class Ended:
    """A process that trained a network, or has not, has ended.

    ``why``: one line; "" where there is nothing to say.  ``died``: without saying why, or by a fault of the program.
    ``lost``: with its machine, which is no fault of the network.  ``elsewhere``: another process trains the network.
    ``left``: asked to leave, after a snapshot.
    """

    network: Network
    why: str = ""
    died: bool = False
    lost: bool = False
    elsewhere: bool = False
    left: bool = False


def ended(network: Network, outcome: Outcome) -> Ended:
    """What an outcome means."""
    code = outcome.code
    died = code not in (WRONG_INPUT, ELSEWHERE, LEFT)
    return Ended(network, outcome.why, died=died, elsewhere=code == ELSEWHERE, left=code == LEFT)


class Runner(Protocol):
    """Starts processes that train networks, here or elsewhere."""

    def has_room(self) -> bool:
        """Whether one more process can be started now."""

    def start(self, networks: Sequence[Network]) -> None:
        """Start a process for some networks, which it trains side by side."""

    def ended(self, wait_s: float) -> list[Ended]:
        """Those that have ended since, after waiting for one so long at most."""

    def leave(self) -> None:
        """Ask all processes to write a snapshot and to end; called again until they have."""

    def close(self) -> None:
        """End all processes that are still there."""


@dataclass(frozen=True)
class Failure:
    """A network without a result, after all its tries."""

    network: Network
    why: str  # one line
    died: bool  # whether its process ended without saying why, or by a fault of the program


class NetworksFailed(CaffeCompatError):
    """Some networks have no result; the others are trained."""

    def __init__(self, failures: Sequence[Failure], waiting: int, out: Path) -> None:
        """``waiting``: how many networks start from one of them, and were not trained."""
        self.failures = list(failures)
        count = f"{len(failures)} network{'s' if len(failures) > 1 else ''} failed"
        rest = f", {waiting} more wait for {'them' if len(failures) > 1 else 'it'}" if waiting else ""
        more = f" (and {len(failures) - 1} more, named above)" if len(failures) > 1 else ""
        super().__init__(
            f"{out}: {count}{rest}: {failures[0].why}{more}; run the same command again to try them again and continue"
        )


class LeftEarly(CaffeCompatError):
    """A signal asked the run to leave; all that trained has written snapshots."""

    def __init__(self, out: Path, signal_number: int, snapshots: int) -> None:
        """``snapshots``: how many networks were left with one."""
        self.signal_number = signal_number
        count = f"{snapshots} network{'' if snapshots == 1 else 's'}"
        super().__init__(
            f"{out}: left at signal {signal_number}, after snapshots of {count}; run the same command again to continue"
        )


@dataclass
class Told:
    """What is called as networks start and end; each function runs in the process of the loop."""

    start: Callable[[Network], None] = lambda network: None
    done: Callable[[Network], None] = lambda network: None  # also for one that another run has trained
    failure: Callable[[Failure, bool], None] = lambda failure, again: None  # whether there is another try
    put_back: Callable[[Network], None] = lambda network: None  # it has ended, and is no failure
    poll: Callable[[], None] = lambda: None


@dataclass
class _State:
    """How often each network was started, and what became of those that failed."""

    most: int
    together: int
    done: set[str]
    tries: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    snapshots: int = 0

    def may_start(self, network: Network) -> bool:
        """Whether it neither runs nor has failed for good."""
        return network.name not in self.running and all(failure.network != network for failure in self.failures)


def train_networks(
    networks: Sequence[Network],
    out: Path,
    runner: Runner,
    *,
    together: int = 1,
    retries: int = 0,
    told: Told | None = None,
    signal_to_leave: Callable[[], int] = lambda: 0,
) -> list[Failure]:
    """Train what is not done; returns what has failed, where another run has not trained it meanwhile.

    ``together``: how many networks of the same images a process may train side by side.
    A network that fails does not end the others: it is tried again, ``retries`` times, if its process died (and as
    often as it takes where its machine was lost); what starts from it is left out.  Why a network failed stands in its
    folder, too (``failed``).  A network that another process trains is waited for, and taken over when that one is
    lost.  Raises LeftEarly when ``signal_to_leave`` returns the number of a signal.
    """
    told = told or Told()
    state = _State(1 + retries, together, {network.name for network in networks if is_done(network, out)})
    try:
        while True:
            leaving = signal_to_leave()
            others = False
            if leaving:
                runner.leave()
            else:
                others = _start_what_can(networks, out, runner, state, told)
            if not state.running:
                if leaving:
                    raise LeftEarly(out, leaving, state.snapshots)
                if not others:
                    return state.failures
                time.sleep(OTHERS_POLL_S)
            for over in runner.ended(POLL_S) if state.running else ():
                _note(over, out, state, told)
            _see_what_others_did(networks, out, state, told)
            told.poll()
    finally:
        runner.close()


def _start_what_can(networks: Sequence[Network], out: Path, runner: Runner, state: _State, told: Told) -> bool:
    """Start networks as long as there is room; whether others train one of those that are left."""
    waiting = [network for network in ready(networks, out) if state.may_start(network)]
    others = False
    now_s = server_time(out) if waiting else 0.0
    while waiting and runner.has_room():
        group = list[Network]()
        for network in [other for other in waiting if other.images == waiting[0].images][: state.together]:
            waiting.remove(network)
            if holder(out / network.name, now_s):
                others = True
            else:
                group.append(network)
        if not group:
            continue
        runner.start(group)
        for network in group:
            state.tries[network.name] += 1
            state.running.add(network.name)
            told.start(network)
    return others


def _note(over: Ended, out: Path, state: _State, told: Told) -> None:
    network = over.network
    state.running.discard(network.name)
    if is_done(network, out):
        state.done.add(network.name)
        told.done(network)
    elif over.elsewhere or over.left or over.lost:
        state.tries[network.name] -= 1
        state.snapshots += over.left
        told.put_back(network)
    else:
        failure = Failure(network, over.why, over.died)
        again = over.died and state.tries[network.name] < state.most  # what is wrong in a file stays wrong
        if not again:
            state.failures.append(failure)
        note_failure(out / network.name, failure.why)
        told.failure(failure, again)


def _see_what_others_did(networks: Sequence[Network], out: Path, state: _State, told: Told) -> None:
    """Networks that were trained by another run: they are done, also where they failed here."""
    for network in networks:
        if network.name not in state.done | state.running and is_done(network, out):
            state.done.add(network.name)
            state.failures = [failure for failure in state.failures if failure.network != network]
            told.done(network)
