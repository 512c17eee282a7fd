"""Training passes and updates recorded once as CUDA graphs and replayed: the host launches two graphs an iteration.

A recorded pass reads its batch from tensors at fixed places, where ``forward_backward`` copies each batch; gradients,
loss and outputs have fixed places, too.  The learning rate is read from the device (``Rule.begin_step``).  In bf16
the update also writes the parameters' rounded copies, which the passes read (``ops.rounded``).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.net import Net
from caffe_compat.ops.rounded import RoundedCopies
from caffe_compat.solver.rules import Rule

Work = Callable[[], None]
RunPass = Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Tensor], Tensor]]

FIRST_PASS = "first pass"  # of an iteration; also the word for it in the log


def obstacle(net: Net, debug_info: bool = False, processes: int = 1) -> str | None:
    """Why training ``net`` cannot be recorded, or None; each layer's class says it of itself (``Layer.graph_safe``)."""
    if net.device.type != "cuda":
        return f"the net is on {net.device}; CUDA graphs need a CUDA device"
    if processes > 1:
        return "several devices train together"
    if debug_info:
        return "debug_info is set"
    if not any(p.requires_grad for p in net.parameters()):
        return "the net has nothing to learn"
    return next((reason for step in net.steps if (reason := _layer_obstacle(step.layer))), None)


def _layer_obstacle(layer: Layer) -> str | None:
    if layer.is_source:
        return None  # makes its batch before the pass
    if layer.graph_safe:
        return None
    return f'layer "{layer.name}" ({layer.type}) {layer.graph_obstacle}'


class Recorder(Protocol):
    """Makes work repeatable."""

    #: whether a replay writes to the same places as the recording
    static: bool

    def warm(self, work: Work) -> None:
        """Run ``work`` once, as a later recording of it will."""

    def record(self, work: Work) -> Work:
        """``work`` as something to call any number of times; RuntimeError where it cannot be recorded."""


class CudaRecorder:
    """Records with CUDA graphs, which share one pool of memory."""

    static = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Work) -> None:
        """On the recording's stream: libraries and autograd set themselves up for each stream."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """Runs nothing yet.  The threads that make batches go on meanwhile, hence thread_local."""
        torch.cuda.synchronize(self._device)
        current, generator = torch.cuda.current_stream(self._device), self._generator()
        before = generator.clone_state()
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.device(self._device),
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                work()
        except RuntimeError:
            # PyTorch leaves its stream in force, its generator in the recording, where it refuses to draw, and its
            # memory too, where no batch's memory would be used again.
            torch.cuda.set_stream(current)
            generator.graphsafe_set_state(before)
            with suppress(RuntimeError):  # it has ended, if the work failed and not the recording
                torch._C._cuda_endAllocateToPool(current.device_index, self._pool)  # noqa: SLF001 - no public name
            raise
        # PyTorch resets the place of random numbers on the recording's stream, and sets it on ours before each replay:
        # a device with much to do may take the two in the wrong order.
        current.wait_stream(self._stream)
        return graph.replay

    def _generator(self) -> torch.Generator:
        return torch.cuda.default_generators[torch.cuda.current_stream(self._device).device_index]


class EagerRecorder:
    """Records nothing: each replay runs the work itself.  For tests of everything around a recording."""

    static = False

    def warm(self, work: Work) -> None:
        """Run it."""
        work()

    def record(self, work: Work) -> Work:
        """The work itself."""
        return work


class GraphedStep:
    """The passes and the update of a training iteration, recorded after a few iterations as they are.

    ``run``: from blobs by name to (outputs, loss) with autograd on.  ``say``: takes one line for the log.
    A pass is recorded again when shapes, the places of parameters or histories, or the rule's settings have changed;
    what fails to be recorded, or changes too often, is run as it is from then on, which ``say`` tells once.
    """

    WARM_UP: ClassVar[int] = 3  # runs before a recording; cuDNN chooses its algorithms in them
    MOST_RECORDINGS: ClassVar[int] = 8

    def __init__(self, net: Net, optimizer: Rule, run: RunPass, recorder: Recorder, say: Callable[[str], None]) -> None:
        self._net, self._optimizer, self._run = net, optimizer, run
        self._recorder, self._say = recorder, say
        #: why passes are no longer recorded; None while they are
        self.given_up: str | None = None
        #: how often passes and updates have been recorded
        self.recordings = 0
        self._inputs: dict[str, Tensor] = {}
        self._first = True
        self._results: dict[str, tuple[dict[str, Tensor], Tensor]] = {}  # of each kind of pass
        self._replays: dict[str, Work] = {}
        self._runs: dict[str, int] = {}  # how often each kind of work ran before it was recorded
        self._gradients: list[tuple[Tensor, Tensor | None]] = []  # where recorded passes write them
        self._places: tuple[Any, ...] = ()
        #: the parameters in bfloat16
        self.copies = RoundedCopies()

    def clear_gradients(self) -> None:
        """An iteration begins: its first pass makes the gradients anew."""
        self._first = True
        self._check_places()
        if not self._replays:
            self._optimizer.zero_grad(set_to_none=True)

    def forward_backward(
        self, batch: Mapping[str, Tensor], *, undisturbed: bool = False
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """A pass on ``batch`` that makes or adds to ``param.grad``: (output blobs, loss).

        The output blobs are valid until the next pass, the loss for good.  ``undisturbed``: nobody else can have
        written to the parameters since the last pass or update.
        """
        if not undisturbed:
            self._check_places()
        self._take(batch)
        self.copies.refresh(undisturbed=undisturbed)
        name = FIRST_PASS if self._first else "further pass"
        self._perform(name, partial(self._pass, name, self._first))
        self._first = False
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        outputs, loss = self._results[name]
        return outputs, loss.clone()

    def update(self) -> None:
        """One update at the rates that the optimizer's groups say."""
        self._optimizer.begin_step()
        self._optimizer.copies = self.copies.tensors
        # Whoever put other gradients in their place wants these used.  Without a kernel the rule takes its rates from
        # the host: a recording would keep those of its first run.
        ours = all(parameter.grad is gradient for parameter, gradient in self._gradients)
        if ours and self._optimizer.fused:
            self._perform("update", self._optimizer.update)
        else:
            self._optimizer.update()
        if self._optimizer.fused:  # else the copies have not been written
            self.copies.note_update()

    def _pass(self, name: str, first: bool) -> None:
        if first:
            self._optimizer.zero_grad(set_to_none=True)
        with self.copies.in_force():
            outputs, loss = self._run(self._inputs)
            loss.backward()
        self._results[name] = {blob: value.detach() for blob, value in outputs.items()}, loss.detach()

    def _perform(self, name: str, work: Work) -> None:
        """Run, record or replay ``work``, whichever is its turn."""
        if self.given_up is not None:
            work()
            return
        if name not in self._replays:
            # The first pass comes first: it decides where the gradients are, which the others take for granted.
            too_early = name != FIRST_PASS and FIRST_PASS not in self._replays
            if self._runs.setdefault(name, 0) < self.WARM_UP or too_early:
                self._runs[name] += 1
                self._recorder.warm(work)
                return
            if not self._record(name, work):
                work()
                return
        self._replays[name]()

    def _record(self, name: str, work: Work) -> bool:
        if self.recordings >= self.MOST_RECORDINGS:
            self._give_up(f"it was recorded {self.recordings} times and has changed again")
            return False
        self.copies.open = False
        try:
            self._replays[name] = self._recorder.record(work)
        except RuntimeError as error:
            self._give_up(f"the {name} cannot be recorded: {str(error).partition(chr(10))[0]}")
            return False
        self.recordings += 1
        if name == FIRST_PASS and self._recorder.static:
            self._gradients = [(p, p.grad) for p in self._net.parameters() if p.grad is not None]
        self._places = self._present_places()
        return True

    def _take(self, batch: Mapping[str, Tensor]) -> None:
        """Copy the batch to where the recorded pass reads it; does not wait for the device."""
        if self.given_up is not None:
            self._inputs = dict(batch)
            return
        shapes = {name: (value.shape, value.dtype) for name, value in batch.items()}
        if shapes != {name: (value.shape, value.dtype) for name, value in self._inputs.items()}:
            if self._replays:
                self._say("the batch's shape has changed: recording the training step again")
            self._forget()
            self._inputs = {name: torch.empty_like(value, device=self._net.device) for name, value in batch.items()}
        for name, value in batch.items():
            self._inputs[name].copy_(value, non_blocking=True)

    def _check_places(self) -> None:
        if self._replays and self._places != self._present_places():
            self._say("parameters, histories or settings have changed: recording the training step again")
            self._forget()

    def _present_places(self) -> tuple[Any, ...]:
        """All that a recording takes for granted."""
        rule = self._optimizer
        tensors = [*self._net.parameters(), *self._net.buffers()]
        modes = [step.layer.training for step in self._net.steps]
        tensors += [value for state in rule.state.values() for value in state.values()]
        groups = [{k: v for k, v in g.items() if k not in ("params", "lr", "iteration")} for g in rule.param_groups]
        settings = (rule.clip_gradients, rule.iter_size, rule.regularization_type, rule.keep_update, rule.fused)
        return tuple(tensor.data_ptr() for tensor in tensors), groups, settings, modes

    def _forget(self) -> None:
        self._replays, self._runs, self._gradients, self._places = {}, {}, [], ()
        self.copies.clear()

    def _give_up(self, reason: str) -> None:
        self.given_up = reason
        self._say(f"No CUDA graphs from here on: {reason}")
        gradients = self._gradients
        self._forget()
        for parameter, gradient in gradients:  # of the passes replayed in this iteration
            parameter.grad = gradient
