"""Caffe's training loop: forward, backward, update, test, display, snapshot, in Caffe's order."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.net import Net
from caffe_compat.precision import autocast, keep_losses_in_float32, set_precision
from caffe_compat.precision import precision as chosen_precision
from caffe_compat.proto import read_solver, upgrade_solver
from caffe_compat.solver import snapshot
from caffe_compat.solver.debug_info import DebugPass
from caffe_compat.solver.devices import device_of, solver_gpus
from caffe_compat.solver.fast_mode import graphed_step, make_fast
from caffe_compat.solver.graphs import GraphedStep
from caffe_compat.solver.log import Log, Score
from caffe_compat.solver.nets import NetOptions, build_test_nets, build_train_net
from caffe_compat.solver.optimizer import build_optimizer
from caffe_compat.solver.parallel import SINGLE, Parallel
from caffe_compat.solver.schedule import Schedule
from caffe_compat.solver.scores import score_names
from caffe_compat.solver.smoothed_loss import SmoothedLoss
from caffe_compat.solver.solver_checks import check_snapshot_prefix, check_solver

Callback = Callable[["Solver"], None]


class Solver:
    """Trains the net of a solver file the way ``caffe train`` does.

    ``solver``: path of a solver prototxt, or a SolverParameter message.
    ``device``: where to train; by default a CUDA device when the file says ``solver_mode: GPU``, else the CPU.
    ``dtype``: float32 (as Caffe) or float64.
    ``log``: where the log lines go; by default glog lines to stderr.
    ``parallel``: this process among those that train together (see ``caffe_compat.solver.parallel``).
    ``source``: the name for messages when ``solver`` is a message.
    ``skip_bad_records``: how many unreadable records each data layer may pass over (and log).
    ``fast``: fused layers (the same numbers up to rounding) and, on CUDA, batches made on the device and the training
    step as CUDA graphs; where a net cannot be recorded as graphs, the log says why, once.
    ``precision``: "fp32", "tf32" or "bf16" (see ``caffe_compat.precision``), set for the whole process as PyTorch's own
    switches are; None leaves what is set.

    >>> solver = Solver("solver.prototxt")
    >>> solver.net.copy_from("pretrained.caffemodel")
    >>> solver.solve()

    Raises SolverError for a file that Caffe would refuse.
    """

    def __init__(
        self,
        solver: str | os.PathLike[str] | Any,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        log: Log | None = None,
        parallel: Parallel = SINGLE,
        source: str | None = None,
        skip_bad_records: int = 0,
        fast: bool = False,
        precision: str | None = None,
    ) -> None:
        from_file = isinstance(solver, str | os.PathLike)
        self.source = source or (os.fspath(solver) if from_file else "<message>")
        self.param = read_solver(solver) if from_file else _upgraded_copy(solver)
        self.parallel = parallel
        self.log = log or Log(enabled=parallel.is_root)
        self.device = device_of(solver_gpus(self.param, "", self.source)) if device is None else torch.device(device)
        check_solver(self.param, self.source)
        if precision is not None:
            set_precision(precision)
        #: of the passes
        self.precision = precision or chosen_precision()
        self.schedule = Schedule(self.param, self.source)
        if parallel.is_root:
            check_snapshot_prefix(self.param, self.source)
        if self.param.random_seed >= 0:
            random.set_seed(self.param.random_seed + parallel.rank)
        random.generator()  # made now, so that a snapshot (which saves its state) draws nothing
        self.log.initializing(str(self.param))

        options = NetOptions(self.source, self.device, dtype, parallel.rank, parallel.count, skip_bad_records)
        #: the train net
        self.net: Net = build_train_net(self.param, options, self.log)
        #: the test nets, which share the train net's parameters by layer name
        self.test_nets: list[Net] = build_test_nets(self.param, options, self.log)
        for test_net in self.test_nets:
            test_net.share_with(self.net)
        nets = (self.net, *self.test_nets)
        if self.precision == "bf16":
            keep_losses_in_float32(layer for net in nets for layer in net.layers.values())
        if fast:
            make_fast(nets, self.precision)
        self.optimizer = build_optimizer(self.param, self.net)
        #: the training step as CUDA graphs, in fast mode where that is possible
        self.graphs: GraphedStep | None = graphed_step(self) if fast else None
        self._train_step = parallel.wrap(self.net, overlap=self.param.layer_wise_reduce)
        self.log.scaffolding_done()

        #: how many updates have been made
        self.iter = 0
        self.smoothed = SmoothedLoss(self.param.average_loss)
        self.keep_window = False  # after an exact resume the smoothing goes on
        self._outputs: Mapping[str, Tensor] = {}
        self._stopping = False
        self._debugging = False
        self._action: Callable[[], str] = lambda: "none"
        self._on_start: list[Callback] = []
        self._on_gradients_ready: list[Callback] = []
        self._on_update: list[Callback] = []

    # -- what users call ----------------------------------------------------------------

    def step(self, iterations: int) -> None:
        """Make ``iterations`` updates, with the tests, displays and snapshots that fall due."""
        if not self.keep_window:
            self.smoothed.clear()
        self.keep_window = False
        self._stopping = False
        self._display_iter, self._display_time = self.iter, time.perf_counter()
        stop = self.iter + iterations
        while self.iter < stop and not self._stopping:
            self._clear_gradients()
            if self._is_test_due():
                self.test_all()
                if self._stopping:
                    break
            self._call(self._on_start)
            display = self._is_display()
            self._debugging = display and self.param.debug_info
            self.smoothed.add(self._accumulate())
            if display:
                self._display()
            self._call(self._on_gradients_ready)
            self._apply_update()
            self._call(self._on_update)
            self._answer_request()

    def solve(self, resume: str | os.PathLike[str] | None = None) -> None:
        """Train to max_iter, from ``resume`` (a .solverstate) if given; snapshot, display and test at the end."""
        self.log.solving(self.net.name, self.param.lr_policy)
        if resume is not None:
            self.log.restoring(resume)
            self.restore(resume)
        self.step(max(0, self.param.max_iter - self.iter))
        if self.param.snapshot_after_train and not self._is_snapshot_due():
            self.snapshot()
        if self._stopping:
            self.log.stopped_early()
            return
        if self._is_display():
            self.smoothed.add(self._forward_train())
            self.log.final_loss(self.iter, self.smoothed.value())
        if self.param.test_interval and self.iter % self.param.test_interval == 0:
            self.test_all()
        self.log.done(self.iter)

    def test_all(self) -> None:
        """Run every test net over its test_iter batches and log the mean outputs."""
        if not self.parallel.is_root:
            return
        for number in range(len(self.test_nets)):
            if not self._stopping:
                self.test(number)

    def test(self, number: int = 0) -> list[Score]:
        """Run one test net over its test_iter batches; logs and returns the mean of each output."""
        self.log.testing(self.iter, number)
        net, batches = self.test_nets[number], self.param.test_iter[number]
        total: Tensor | None = None
        loss = torch.zeros((), dtype=torch.float64)
        names: list[tuple[str, float]] = []
        for _ in range(batches):
            if self._answer_while_testing():
                self.log.test_interrupted()
                return []
            outputs, batch_loss = self._forward_test(net)
            values = [outputs[name].detach().reshape(-1) for name in net.outputs]
            names = score_names(net, outputs)
            flat = torch.cat(values) if values else torch.zeros(0)
            total = flat.clone() if total is None else total + flat
            if self.param.test_compute_loss:
                loss = loss.to(batch_loss.device) + batch_loss.detach()
        means = [] if total is None else (total / batches).tolist()
        scores = [Score(name, mean, weight) for (name, weight), mean in zip(names, means, strict=True)]
        mean_loss = float(loss) / batches if self.param.test_compute_loss and batches else None
        self.log.test(self.iter, number, mean_loss, scores)
        return scores

    def snapshot(self) -> Path | None:
        """Write the weights, our resume file and the solver state; returns the state's path.

        Names as Caffe's: ``<snapshot_prefix>_iter_<iter>.caffemodel`` and ``.solverstate``, with ``.h5`` appended
        for snapshot_format HDF5.  In parallel training only the root writes; the others return None.
        """
        return snapshot.write_snapshot(self)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continue from a .solverstate or .solverstate.h5, ours or Caffe's.

        With our resume file beside it, data position and random state are restored too.
        """
        snapshot.restore_snapshot(self, path)

    def add_callback(
        self,
        on_start: Callback | None = None,
        on_gradients_ready: Callback | None = None,
        on_update: Callback | None = None,
    ) -> None:
        """Call functions with this solver before each iteration's passes, between gradients and update, and after
        the update (when ``iter`` counts it).
        """
        for functions, function in (
            (self._on_start, on_start),
            (self._on_gradients_ready, on_gradients_ready),
            (self._on_update, on_update),
        ):
            if function is not None:
                functions.append(function)

    def set_action_function(self, function: Callable[[], str]) -> None:
        """``function`` is asked after each iteration (and test batch) for "none", "stop" or "snapshot"."""
        self._action = function

    def train_outputs(self) -> Mapping[str, Tensor]:
        """The train net's output blobs in the last training pass."""
        return self._outputs

    def close(self) -> None:
        """Release the data layers' files and threads, and the log's files."""
        for net in (self.net, *self.test_nets):
            net.close()
        self.log.close()

    # -- what the facade replaces -------------------------------------------------------

    def _clear_gradients(self) -> None:
        if self.graphs is not None:
            self.graphs.clear_gradients()
        else:
            self.optimizer.zero_grad(set_to_none=True)

    def _forward_backward(self) -> Tensor:
        """One pass of the train net that adds to ``param.grad``; returns the loss and notes the outputs."""
        if self._debugging:
            return self._debug_pass()
        if self.graphs is not None:
            self._outputs, loss = self.graphs.forward_backward(self.net.next_batch())
            return loss
        with autocast(self.device, self.precision):
            outputs, loss = self._train_step()
        if loss.requires_grad:
            loss.backward()
        self._outputs = {name: value.detach() for name, value in outputs.items()}
        return loss.detach()

    def _debug_pass(self) -> Tensor:
        debug = DebugPass(self.net, self.log)
        self._outputs, loss = debug.run()
        return loss

    def _forward_train(self) -> Tensor:
        """A forward pass of the train net alone; returns the loss."""
        with torch.no_grad(), autocast(self.device, self.precision):
            _, loss = self.net.forward_with_loss()
        return loss

    def _forward_test(self, net: Net) -> tuple[Mapping[str, Tensor], Tensor]:
        """A forward pass of a test net: (outputs, loss)."""
        with torch.no_grad(), autocast(self.device, self.precision):
            return net.forward_with_loss()

    # -- one iteration ------------------------------------------------------------------

    def _accumulate(self) -> Tensor:
        """iter_size passes; returns their mean loss."""
        passes = self.param.iter_size
        total = None
        for i in range(passes):
            with self.parallel.accumulating(self._train_step, last=i == passes - 1):
                loss = self._forward_backward()
            total = loss if total is None else total + loss
        assert total is not None
        if self._debugging:
            self.parallel.average(p.grad for p in self.net.parameters() if p.grad is not None)
        return total / passes if passes > 1 else total

    def _apply_update(self) -> None:
        step_before = self.schedule.current_step
        # float32, as Caffe's Dtype
        rate = float(np.float32(self.schedule.rate(self.iter)))
        if self.schedule.tells_step and self.schedule.current_step != step_before:
            self.log.multistep_status(self.iter, self.schedule.current_step)
        if self._is_display():
            self.log.learning_rate(self.iter, rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["iteration"] = self.iter
        if self.graphs is not None:
            self.graphs.update()
        else:
            self.optimizer.step()
        self._log_clipping()
        self.iter += 1

    def _log_clipping(self) -> None:
        # On CUDA reading the norm waits for the device, so only where a display waits anyway.
        norm, scale = self.optimizer.last_norm, self.optimizer.last_scale
        if norm is None or scale is None or not (norm.device.type == "cpu" or self._is_display()):
            return
        if scale < 1:
            self.log.clipping(float(norm), self.param.clip_gradients, float(scale))

    def _display(self) -> None:
        now = time.perf_counter()
        wall_s = now - self._display_time
        speed = (self.iter - self._display_iter) / (wall_s or 1.0)
        self._display_iter, self._display_time = self.iter, now
        outputs = self.train_outputs()
        values = [float(v) for name in self.net.outputs if name in outputs for v in outputs[name].detach().reshape(-1)]
        names = score_names(self.net, outputs)
        scores = [Score(name, value, weight) for (name, weight), value in zip(names, values, strict=True)]
        self.log.train(
            self.iter,
            self.smoothed.value(),
            scores,
            iterations_per_s=speed,
            wall_s=wall_s,
            display=self.param.display,
        )

    # -- what is due --------------------------------------------------------------------

    def _is_display(self) -> bool:
        return bool(self.param.display) and self.iter % self.param.display == 0

    def _is_test_due(self) -> bool:
        interval = self.param.test_interval
        return bool(interval) and self.iter % interval == 0 and (self.iter > 0 or self.param.test_initialization)

    def _is_snapshot_due(self) -> bool:
        return bool(self.param.snapshot) and self.iter % self.param.snapshot == 0

    def _answer_request(self) -> None:
        request = self.parallel.agree(self._action())
        if self._is_snapshot_due() or request == "snapshot":
            self.snapshot()
        if request == "stop":
            self._stopping = True

    def _answer_while_testing(self) -> bool:
        """Answer all pending requests; True when one of them is to stop."""
        if self.parallel.count > 1:
            return False  # only the root tests; it answers after the iteration, with the others
        while (request := self._action()) != "none":
            if request == "snapshot":
                self.snapshot()
            elif request == "stop":
                self._stopping = True
        return self._stopping

    def _call(self, functions: list[Callback]) -> None:
        for function in functions:
            function(self)


def _upgraded_copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    upgrade_solver(copy)
    return copy
