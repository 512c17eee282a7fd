"""All that a training run is beside its weights: what snapshots hold and a resumed run goes on from."""

import os
import random as python_random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.layers.base import Layer
from caffe_compat.net import Net
from caffe_compat.proto import SolverSnapshot
from caffe_compat.solver.rules import Rule
from caffe_compat.solver.schedule import Schedule
from caffe_compat.solver.smoothed_loss import SmoothedLoss


class TrainingState:
    """The state of one process that trains; ``nets``: the train net, then the test nets.

    Caffe's part (``solver_snapshot``): the iteration, the schedule's step, the histories.  Our own (``state``), for a
    continuation with the same bits: the sources' positions, the random states, the window of smoothed losses, and the
    layers' buffers.
    """

    def __init__(self, nets: Sequence[Net], optimizer: Rule, schedule: Schedule, smoothed: SmoothedLoss) -> None:
        self.net = nets[0]
        self.smoothed = smoothed
        #: how many updates have been made
        self.iteration = 0
        self._nets, self._optimizer, self._schedule = nets, optimizer, schedule
        self._keeps_window = False

    def start_window(self) -> None:
        """Caffe forgets the losses at each ``step(n)``; right after an exact resume they are kept."""
        if not self._keeps_window:
            self.smoothed.clear()
        self._keeps_window = False

    # -- Caffe's part -------------------------------------------------------------------

    def solver_snapshot(self, learned_net: str) -> SolverSnapshot:
        """What a .solverstate holds; ``learned_net`` is the path of the weights beside it."""
        histories = self._optimizer.histories(p.parameter for p in self.net.learnable)
        step = self._schedule.current_step
        return SolverSnapshot(self.iteration, learned_net, step, [h.cpu().numpy() for h in histories])

    def check_solver_snapshot(self, snapshot: SolverSnapshot, place: str | os.PathLike[str]) -> None:
        """Raise SolverError, which starts with ``place``, when the histories are not those of this net and rule.

        Those of Caffe before BlobShape, which have four axes, get the shapes of their parameters.
        """
        learnable = self.net.learnable
        expected = len(learnable) * self._optimizer.history_count
        if len(snapshot.history) != expected:
            raise SolverError(
                f"{os.fspath(place)}: has {len(snapshot.history)} history blobs; {self._optimizer.type} on the net "
                f"{self.net.source} needs {expected}: it is the snapshot of another net or solver type"
            )
        for i, array in enumerate(snapshot.history):
            owner = learnable[i % len(learnable)]
            ours = tuple(owner.parameter.shape)
            legacy = (1,) * (4 - len(ours)) + ours
            if array.shape not in (ours, legacy):
                raise SolverError(
                    f"{os.fspath(place)}: history {i} has shape {array.shape}, param {owner.index} of layer "
                    f'"{owner.layer}" ({self.net.source}) has {ours}: it is the snapshot of another net'
                )
            snapshot.history[i] = array.reshape(ours)

    def load_solver_snapshot(self, snapshot: SolverSnapshot) -> None:
        """Go on from a snapshot that has been checked."""
        # Copied, as the views of a file are read-only.
        values = [torch.from_numpy(np.array(h)).to(self.net.device, self.net.dtype) for h in snapshot.history]
        self._optimizer.load_histories([p.parameter for p in self.net.learnable], values)
        self.iteration = snapshot.iter
        self._schedule.current_step = snapshot.current_step

    # -- our part -----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The rest, as JSON values, bytes and tensors."""
        return {
            "sources": [
                [{"identity": layer.source_identity(), "state": layer.source_state()} for layer in net.sources()]
                for net in self._nets
            ],
            "random": _random_state(self.net.device),
            "losses": self.smoothed.get_state(),
            "buffers": [_buffers(net) for net in self._nets],
        }

    def load_state(self, state: dict[str, Any], place: str | os.PathLike[str] = "state") -> list[str]:
        """Go on from a ``state``; returns a line for each source and buffer that it does not fit, which starts anew.

        Raises SolverError, which starts with ``place``, when it is none of ours.
        """
        try:
            problems = []
            for number, net in enumerate(self._nets):
                saved = state["sources"][number] if number < len(state["sources"]) else []
                for i, layer in enumerate(net.sources()):
                    problem = _load_source(layer, saved[i] if i < len(saved) else None)
                    if problem:
                        problems.append(f"{layer.where()}: {problem}; it starts from its beginning, as in Caffe")
                problems += _load_buffers(net, state["buffers"][number] if number < len(state["buffers"]) else {})
            _set_random_state(state["random"], self.net.device)
            self.smoothed.set_state(state["losses"], self.net.device)
        except CaffeCompatError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise SolverError(
                f"{os.fspath(place)}: cannot be used: {error!r}; remove it to resume as Caffe does"
            ) from error
        self._keeps_window = True
        return problems


def _load_source(layer: Layer, saved: dict[str, Any] | None) -> str:
    """Go on where ``saved`` stands; if it is that of another source, leave the layer as it is and say why."""
    start = layer.source_state()
    if saved is None:
        return "was not there" if start else ""
    if not start and not saved["state"]:
        return ""  # as an Input, which has no place to go on from
    theirs, ours = saved["identity"], layer.source_identity()
    keys = ["type"] if theirs.get("type") != ours["type"] else list({**theirs, **ours})
    different = [(key, theirs.get(key, "not set"), ours.get(key, "not set")) for key in keys]
    different = [entry for entry in different if entry[1] != entry[2]]
    if different:
        return " ".join(", ".join(f"{key} was {before}, is {now}" for key, before, now in different).split())
    try:
        layer.load_source_state(saved["state"])
    except (CaffeCompatError, LookupError, TypeError, ValueError) as error:
        layer.load_source_state(start)
        return str(error)
    return ""


def _buffers(net: Net) -> dict[str, Tensor]:
    """What layers keep from pass to pass beside their parameters."""
    return {name: buffer.detach().cpu() for name, buffer in _own_buffers(net).items() if buffer.numel()}


def _own_buffers(net: Net) -> dict[str, Tensor]:
    constant = {id(getattr(step.layer, name)) for step in net.steps for name in step.layer.constant_buffers}
    return {name: buffer for name, buffer in net.named_buffers() if id(buffer) not in constant}


def _load_buffers(net: Net, saved: dict[str, Tensor]) -> list[str]:
    own = _own_buffers(net)
    for name in saved.keys() & own.keys():
        own[name].resize_(saved[name].shape).copy_(saved[name])
    return [f"{net.source}: has no {name}; it is left out" for name in saved if name not in own]


def _random_state(device: torch.device) -> dict[str, Any]:
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "caffe": random.generator().get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        # Python layers may draw from these.
        "python": _as_lists(python_random.getstate()),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
    }


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    random.generator().set_state(state["caffe"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    version, internal, gauss = state["python"]
    python_random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
