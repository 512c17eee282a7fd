"""Several networks trained in one process, in turns: an iteration of training, or a batch of a test, each.

What they would read, transform or compute alike is done once (``Common``).  All else of a network is its own: folder,
lease, log, random streams, snapshots and failure.  Its numbers are those that it would have in a process of its own.
"""

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from caffe_compat import Solver
from caffe_compat.data.batch_pool import BatchPool
from caffe_compat.data.layers.data import Data
from caffe_compat.net.shared_prefix import SharedPrefix
from caffe_compat.random.own_streams import OwnStreams


@dataclass
class Common:
    """What networks of one process have in common."""

    pool: BatchPool = field(default_factory=BatchPool)
    prefix: SharedPrefix = field(default_factory=SharedPrefix)

    def join(self, solver: Solver) -> list[str]:
        """Let the nets of ``solver`` make once, for all, what others make, too; in words, which layers.

        Frozen layers only where the crops do not depend on the network (``transform_param.random_seed``), and not
        where their results are looked up.
        """
        same_crops = has_own_crops(solver)
        said = []
        for net in (solver.net, *solver.test_nets):
            sources = list(net.sources())
            if len(sources) != 1 or not isinstance(sources[0], Data) or not self.pool.add(sources[0]):
                continue
            layers = self.prefix.add(net, solver.precision) if same_crops else ""
            if layers:
                said.append(f"{net.source}: {layers} are computed once for all networks of this process")
        return said


def has_own_crops(solver: Solver) -> bool:
    """Whether the training images' windows and mirrors do not depend on what else the network draws."""
    return any(
        isinstance(layer, Data) and layer.param.transform_param.random_seed >= 0 for layer in solver.net.sources()
    )


class InTurn:
    """One network's training, with what it has of the process to itself."""

    def __init__(self, turns: Generator[int, None, None], device: str) -> None:
        #: the iteration where it stands; -1 before the first turn
        self.iteration = -1
        self._turns, self._streams = turns, OwnStreams(torch.device(device))
        self._folder, self._show = os.getcwd(), warnings.showwarning

    def take(self) -> bool:
        """A turn; False when there was none left.  Raises what ends the training."""
        with self._in_force():
            try:
                self.iteration = next(self._turns)
            except StopIteration:
                return False
        return True

    def close(self) -> None:
        """End the training where it is."""
        with self._in_force():
            self._turns.close()

    @contextmanager
    def _in_force(self) -> Iterator[None]:
        """The working folder, where warnings go, and the random streams are the network's."""
        before = os.getcwd(), warnings.showwarning
        os.chdir(self._folder)
        warnings.showwarning = self._show
        try:
            with self._streams.in_force():
                yield
        finally:
            self._folder, self._show = os.getcwd(), warnings.showwarning
            os.chdir(before[0])
            warnings.showwarning = before[1]


def train_in_turns(
    trainings: Sequence[Generator[int, None, None]], device: str, over: Callable[[int, Exception | None], None]
) -> None:
    """Train them side by side; ``over`` is told the number of each that ends, and the error that has ended it.

    Each gives its iteration at each turn.  Those that are behind, as after a resume, go on alone until they stand where
    the others do: from there on they have batches in common.
    """
    left = {number: InTurn(turns, device) for number, turns in enumerate(trainings)}
    try:
        while left:
            behind = min(turn.iteration for turn in left.values())
            for number in [number for number, turn in left.items() if turn.iteration == behind]:
                try:
                    if left[number].take():
                        continue
                    why = None
                except Exception as error:
                    why = error
                del left[number]
                over(number, why)
    finally:
        for turn in left.values():
            turn.close()
