"""The training log: glog lines worded as Caffe 1.0's, and the same events as structured metrics.

The words and their order are those that Caffe's log tools read.  Two kinds of lines are added in the form of
2014's Caffe, for the reader of the paper's authors: ``Iteration 20,  loss = 6.6`` (two blanks, so that Caffe 1.0's
readers do not take it for the final loss) and ``Test score #0: 0.57``.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple, TextIO

from caffe_compat.solver.events import (
    DoneEvent,
    Event,
    FinalEvent,
    LearningRateEvent,
    SnapshotEvent,
    StartEvent,
    TestEvent,
    TrainEvent,
)
from caffe_compat.solver.metrics import Sink


class Score(NamedTuple):
    """One number of an output blob; ``weight`` is its loss_weight (0: not a loss)."""

    name: str
    value: float
    weight: float = 0.0


class Log:
    """Writes events as they happen; ``stream=None`` means the present stderr.

    ``sinks`` get each event.  ``enabled=False`` silences everything (ranks other than 0).
    """

    def __init__(self, stream: TextIO | None = None, sinks: Iterable[Sink] = (), enabled: bool = True) -> None:
        self._stream = stream
        self.sinks = list(sinks)
        self.enabled = enabled

    def line(self, place: str, message: str, severity: str = "I") -> None:
        """One glog line; ``place`` is Caffe's ``file.cpp:line``, ``severity`` one of I W E F."""
        if not self.enabled:
            return
        stamp = datetime.now().strftime("%m%d %H:%M:%S.%f")
        stream = self._stream or sys.stderr
        stream.write(f"{severity}{stamp} {threading.get_native_id():5d} {place}] {message}\n")
        stream.flush()

    def _emit(self, event_class: Callable[..., Event], iteration: int, **values: Any) -> None:
        """Make an event of this moment and give it to the sinks."""
        if self.enabled and self.sinks:
            event = event_class(iteration, round(time.time(), 6), **values)
            for sink in self.sinks:
                sink.write(event)

    def close(self) -> None:
        """Close the sinks."""
        for sink in self.sinks:
            sink.close()

    # -- the events of training ---------------------------------------------------------

    def train(
        self, iteration: int, loss: float, scores: list[Score], speed: float, wall_s: float, display: int
    ) -> None:
        """The smoothed loss and the train net's outputs at a display iteration."""
        self.line(
            "solver.cpp:239",
            f"Iteration {iteration} ({speed:g} iter/s, {wall_s:g}s/{display} iters), loss = {loss:g}",
        )
        self.line("solver.cpp:239", f"Iteration {iteration},  loss = {loss:g}")
        for i, score in enumerate(scores):
            self.line("solver.cpp:258", f"    Train net output #{i}: {format_score(score)}")
        outputs = _as_dict(scores)
        self._emit(TrainEvent, iteration, loss=loss, iterations_per_s=speed, outputs=outputs)

    def learning_rate(self, iteration: int, rate: float) -> None:
        """The global learning rate at a display iteration."""
        self.line("sgd_solver.cpp:112", f"Iteration {iteration}, lr = {rate:g}")
        self._emit(LearningRateEvent, iteration, lr=rate)

    def testing(self, iteration: int, net: int) -> None:
        """A test pass begins."""
        self.line("solver.cpp:347", f"Iteration {iteration}, Testing net (#{net})")

    def test(self, iteration: int, net: int, loss: float | None, scores: list[Score]) -> None:
        """A test pass has ended: mean loss (test_compute_loss) and mean outputs."""
        if net == 0:  # 2014's Caffe had one test net
            for i, score in enumerate(scores):
                self.line("solver.cpp:114", f"Test score #{i}: {score.value:g}")
        if loss is not None:
            self.line("solver.cpp:399", f"Test loss: {loss:g}")
        for i, score in enumerate(scores):
            self.line("solver.cpp:414", f"    Test net output #{i}: {format_score(score)}")
        self._emit(TestEvent, iteration, net=net, loss=loss, outputs=_as_dict(scores))

    def snapshot(self, iteration: int, kind: str, model: str) -> None:
        """The weights are about to be written."""
        place = "solver.cpp:464" if kind == "binary proto" else "solver.cpp:475"
        self.line(place, f"Snapshotting to {kind} file {model}")

    def snapshot_state(self, iteration: int, kind: str, state: str) -> None:
        """The solver state is about to be written."""
        place = "sgd_solver.cpp:284" if kind == "binary proto" else "sgd_solver.cpp:296"
        self.line(place, f"Snapshotting solver state to {kind} file {state}")

    def start(self) -> None:
        """A process begins to train; an event only."""
        self._emit(StartEvent, 0)

    def snapshot_done(self, iteration: int, model: str, state: str) -> None:
        """The snapshot is whole; an event only."""
        self._emit(SnapshotEvent, iteration, model=model, state=state)

    def done(self, iteration: int) -> None:
        """Training has come to its end."""
        self.line("solver.cpp:332", "Optimization Done.")
        self._emit(DoneEvent, iteration)

    def final_loss(self, iteration: int, loss: float) -> None:
        """The loss of the pass after the last update."""
        self.line("solver.cpp:327", f"Iteration {iteration}, loss = {loss:g}")
        self._emit(FinalEvent, iteration, loss=loss)


def format_score(score: Score) -> str:
    """``name = value``, and for a loss its weight and product, as Caffe prints them."""
    text = f"{score.name} = {score.value:g}"
    if score.weight:
        text += f" (* {score.weight:g} = {score.weight * score.value:g} loss)"
    return text


def _as_dict(scores: list[Score]) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    for score in scores:
        if score.name not in outputs:
            outputs[score.name] = score.value
        else:
            earlier = outputs[score.name]
            outputs[score.name] = [*(earlier if isinstance(earlier, list) else [earlier]), score.value]
    return outputs
