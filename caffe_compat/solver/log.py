"""A Solver's log: glog lines worded as Caffe 1.0's, one method for each, and training's events beside them.

The words and their order are those that Caffe's log tools read.  ``Log(lines_of_2014=True)`` adds two kinds of lines
in the form of 2014's Caffe, for the reader of the paper's authors: ``Iteration 20,  loss = 6.6`` (two blanks, so that
Caffe 1.0's readers do not take it for the final loss) and ``Test score #0: 0.57``.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from caffe_compat.glog import Glog
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

if TYPE_CHECKING:
    from caffe_compat.solver.average_precision import Precision


class Score(NamedTuple):
    """One number of an output blob; ``weight`` is its loss_weight (0: not a loss)."""

    name: str
    value: float
    weight: float = 0.0


class WeightsLog(Glog):
    """What becomes of a file of weights; the commands that take some say no more of it, a Solver does."""

    def finetuning(self, path: str) -> None:
        """Weights are about to be copied from a file; only a Solver says so."""

    def ignoring_source_layer(self, name: str) -> None:
        """A layer in the file of weights that the net does not have."""
        self.line("net.cpp:746", f"Ignoring source layer {name}")

    def weights_differ(self, path: str, differences: str) -> None:
        """Our own: blobs that no layer took, and layers that got none."""
        self.line("weights.py:1", f"{path}: {differences}", severity="W")


class Log(WeightsLog):
    """The lines and events of a Solver, written as they happen.

    ``sinks`` get each event.  ``enabled=False`` silences lines and events (ranks other than 0).
    ``lines_of_2014``: write those, too.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        sinks: Iterable[Sink] = (),
        *,
        enabled: bool = True,
        lines_of_2014: bool = False,
    ) -> None:
        super().__init__(stream, enabled=enabled)
        self.sinks = list(sinks)
        self.lines_of_2014 = lines_of_2014

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

    # -- a solver is made ---------------------------------------------------------------

    def initializing(self, parameters: str) -> None:
        """The solver file as it is used."""
        # Text format, in which strings have no line breaks.
        self.line("solver.cpp:45", "Initializing solver from parameters: ", lines=f"\n{parameters.rstrip()}")

    def train_net_from_field(self, field: str) -> None:
        """The train net stands in the solver file itself."""
        self.line("solver.cpp:88", f"Creating training net specified in {field}.")

    def train_net_from_file(self, field: str, path: str) -> None:
        """The train net has a file of its own, which ``field`` names."""
        self.line("solver.cpp:102", f"Creating training net from {field} file: {path}")

    def test_net(self, net: int, origin: str) -> None:
        """A test net is made; ``origin`` is the field that has it, or the field and the file."""
        self.line("solver.cpp:190", f"Creating test net (#{net}) specified by {origin}")

    def finetuning(self, path: str) -> None:
        """Weights are about to be copied from a file."""
        self.line("solver.cpp:72", f"Finetuning from {path}")

    def not_shared(self, net: int, layers: list[str]) -> None:
        """Our own: what a test net does not have from the train net, nobody trains."""
        names = ", ".join(f'"{layer}"' for layer in layers)
        self.line(
            "nets.py:1",
            f"test net #{net}: the train net has no layers {names}, whose parameters stay as they are; "
            "give them the train net's names",
            severity="W",
        )

    def repeated_name(self, model: str, name: str) -> None:
        """Our own: the snapshots of this net will be of no use."""
        self.line(
            "weights.py:1",
            f'{model}: several layers, some with parameters, have the name "{name}", so that a snapshot '
            "cannot be restored; give each a name of its own",
            severity="W",
        )

    def scaffolding_done(self) -> None:
        """All nets are there."""
        self.line("solver.cpp:57", "Solver scaffolding done.")

    def graphs(self, message: str) -> None:
        """Our own: what becomes of the CUDA graphs in fast mode."""
        self.line("graphs.py:1", message)

    def convolutions(self, message: str) -> None:
        """Our own: by what fast mode chooses among the ways to compute a convolution on CUDA."""
        self.line("conv_choice.py:1", message)

    # -- training -----------------------------------------------------------------------

    def start(self) -> None:
        """A process begins to train; an event only."""
        self._emit(StartEvent, 0)

    def solving(self, net_name: str, policy: str) -> None:
        """Training begins."""
        self.line("solver.cpp:289", f"Solving {net_name}")
        self.line("solver.cpp:290", f"Learning Rate Policy: {policy}")

    def restoring(self, path: str | os.PathLike[str]) -> None:
        """Training is about to continue from a snapshot."""
        self.line("solver.cpp:296", f"Restoring previous solver status from {os.fspath(path)}")

    def restoring_history(self) -> None:
        """The histories are about to be taken from a snapshot."""
        self.line("sgd_solver.cpp:318", "SGDSolver: restoring history")

    def resume_does_not_fit(self, path: Path, reason: str) -> None:
        """Our own: the file beside a snapshot belongs to another run."""
        self.line("solver.cpp:520", f"{path} {reason}: data restarts from its beginning, as in Caffe", severity="W")

    def state_does_not_fit(self, path: Path, problem: str) -> None:
        """Our own: a layer is not the one whose state was saved; ``problem`` says which, and what becomes of it."""
        self.line("solver.cpp:520", f"{path}: {problem}", severity="W")

    def passing_over_snapshot(self, path: Path, problem: Exception) -> None:
        """Our own: a damaged snapshot is not resumed from."""
        self.line("solver.cpp:520", f"passing over snapshot {path}: {problem}", severity="W")

    def train(
        self, iteration: int, loss: float, scores: list[Score], *, iterations_per_s: float, wall_s: float, display: int
    ) -> None:
        """The smoothed loss and the train net's outputs at a display iteration.

        ``wall_s``: seconds since the last display, ``display`` the iterations from one to the next.
        """
        speed = f"{iterations_per_s:g} iter/s, {wall_s:g}s/{display} iters"
        self.line("solver.cpp:239", f"Iteration {iteration} ({speed}), loss = {loss:g}")
        if self.lines_of_2014:
            self.line("solver.cpp:239", f"Iteration {iteration},  loss = {loss:g}")
        for i, score in enumerate(scores):
            self.line("solver.cpp:258", f"    Train net output #{i}: {format_score(score)}")
        outputs = _as_dict(scores)
        self._emit(TrainEvent, iteration, loss=loss, iterations_per_s=iterations_per_s, outputs=outputs)

    def learning_rate(self, iteration: int, rate: float) -> None:
        """The global learning rate at a display iteration."""
        self.line("sgd_solver.cpp:112", f"Iteration {iteration}, lr = {rate:g}")
        self._emit(LearningRateEvent, iteration, lr=rate)

    def loss_not_finite(self, message: str) -> None:
        """A displayed loss is NaN or infinite; Caffe says nothing."""
        self.line("solver.cpp:239", message, severity="W")

    def multistep_status(self, iteration: int, step: int) -> None:
        """The multistep policy has reached its next stepvalue."""
        self.line("sgd_solver.cpp:57", f"MultiStep Status: Iteration {iteration}, step = {step}")

    def clipping(self, norm: float, threshold: float, scale: float) -> None:
        """Gradients whose L2 norm exceeds clip_gradients are scaled down."""
        self.line(
            "sgd_solver.cpp:97",
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {threshold:g}) by scale factor {scale:g}",
        )

    def final_loss(self, iteration: int, loss: float) -> None:
        """The loss of the pass after the last update."""
        self.line("solver.cpp:327", f"Iteration {iteration}, loss = {loss:g}")
        self._emit(FinalEvent, iteration, loss=loss)

    def stopped_early(self) -> None:
        """Training ends at somebody's request."""
        self.line("solver.cpp:316", "Optimization stopped early.")

    def done(self, iteration: int) -> None:
        """Training has come to its end."""
        self.line("solver.cpp:332", "Optimization Done.")
        self._emit(DoneEvent, iteration)

    def warning(self, place: str, message: str) -> None:
        """A warning of Python's, from ``file.py:line``."""
        self.line(place, message, severity="W")

    # -- testing ------------------------------------------------------------------------

    def testing(self, iteration: int, net: int) -> None:
        """A test pass begins."""
        self.line("solver.cpp:347", f"Iteration {iteration}, Testing net (#{net})")

    def test(self, iteration: int, net: int, loss: float | None, scores: list[Score]) -> None:
        """A test pass has ended: mean loss (test_compute_loss) and mean outputs."""
        if self.lines_of_2014 and net == 0:  # 2014's Caffe had one test net
            for i, score in enumerate(scores):
                self.line("solver.cpp:114", f"Test score #{i}: {score.value:g}")
        if loss is not None:
            self.line("solver.cpp:399", f"Test loss: {loss:g}")
        for i, score in enumerate(scores):
            self.line("solver.cpp:414", f"    Test net output #{i}: {format_score(score)}")
        self._emit(TestEvent, iteration, net=net, loss=loss, outputs=_as_dict(scores))

    def test_detection(
        self, iteration: int, net: int, loss: float | None, found: "dict[str, Precision]", *, per_class: bool
    ) -> None:
        """A test pass of SSD's ``eval_type: detection`` has ended: the mean average precision of each output."""
        if loss is not None:
            self.line("solver.cpp:499", f"Test loss: {loss:g}")
        for i, (name, precision) in enumerate(found.items()):
            for label, value in precision.labels.items():
                if value is None:
                    self.line("solver.cpp:524", f"Missing true_pos for label: {label}", severity="W")
                elif per_class:
                    self.line("solver.cpp:540", f"class{label}: {value:g}")
            self.line("solver.cpp:546", f"    Test net output #{i}: {name} = {precision.mean:g}")
        outputs = {name: precision.mean for name, precision in found.items()}
        self._emit(TestEvent, iteration, net=net, loss=loss, outputs=outputs)

    def test_interrupted(self) -> None:
        """A test pass ends at somebody's request."""
        self.line("solver.cpp:396", "Test interrupted.")

    # -- snapshots ----------------------------------------------------------------------

    def snapshot(self, kind: str, model: str) -> None:
        """The weights are about to be written; ``kind`` is "binary proto" or "HDF5"."""
        place = "solver.cpp:464" if kind == "binary proto" else "solver.cpp:475"
        self.line(place, f"Snapshotting to {kind} file {model}")

    def snapshot_state(self, kind: str, state: str) -> None:
        """The solver state is about to be written."""
        place = "sgd_solver.cpp:284" if kind == "binary proto" else "sgd_solver.cpp:296"
        self.line(place, f"Snapshotting solver state to {kind} file {state}")

    def snapshot_done(self, iteration: int, model: str, state: str) -> None:
        """The snapshot is whole; an event only."""
        self._emit(SnapshotEvent, iteration, model=model, state=state)

    # -- debug_info: ``mean`` is the mean absolute value -----------------------------------

    def forward_top(self, layer: str, blob: str, mean: float) -> None:
        """A top blob after the layer's forward pass."""
        self.line("net.cpp:608", f"    [Forward] Layer {layer}, top blob {blob} data: {mean:g}")

    def forward_param(self, layer: str, blob: str, mean: float) -> None:
        """A parameter of a layer that has run forward."""
        self.line("net.cpp:608", f"    [Forward] Layer {layer}, param blob {blob} data: {mean:g}")

    def backward_bottom(self, layer: str, blob: str, mean: float) -> None:
        """A bottom's gradient after the layer's backward pass."""
        self.line("net.cpp:636", f"    [Backward] Layer {layer}, bottom blob {blob} diff: {mean:g}")

    def backward_param(self, layer: str, index: int, mean: float) -> None:
        """A parameter's gradient after the layer's backward pass."""
        self.line("net.cpp:636", f"    [Backward] Layer {layer}, param blob {index} diff: {mean:g}")

    def norms(self, l1: tuple[float, float], l2: tuple[float, float]) -> None:
        """The norms of (all parameters, all gradients)."""
        self.line(
            "net.cpp:593",
            f"    [Backward] All net params (data, diff): L1 norm = ({l1[0]:g}, {l1[1]:g}); "
            f"L2 norm = ({l2[0]:g}, {l2[1]:g})",
            severity="E",
        )


def format_score(score: Score) -> str:
    """``name = value``, and for a loss its weight and product, as Caffe prints them."""
    text = f"{score.name} = {score.value:g}"
    if score.weight:
        text += f" (* {score.weight:g} = {score.weight * score.value:g} loss)"
    return text


def _as_dict(scores: list[Score]) -> dict[str, float | list[float]]:
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.name, []).append(score.value)
    return {name: own if len(own) > 1 else own[0] for name, own in values.items()}
