"""Caffe's training loop: forward, backward, update, test, display, snapshot, in Caffe's order."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.net import Net
from caffe_compat.precision import check_precision, keep_losses_in_float32, use_precision
from caffe_compat.precision import precision as chosen_precision
from caffe_compat.proto import caffe_pb2, read_solver
from caffe_compat.solver.devices import device_of, solver_gpus
from caffe_compat.solver.display import Display
from caffe_compat.solver.evaluation import Evaluation, Result, forward
from caffe_compat.solver.fast_mode import make_fast
from caffe_compat.solver.graphs import GraphedStep
from caffe_compat.solver.log import Log, Score
from caffe_compat.solver.nets import NetOptions, build_nets
from caffe_compat.solver.not_finite import NotFinite
from caffe_compat.solver.optimizer import build_optimizer
from caffe_compat.solver.parallel import SINGLE, Parallel
from caffe_compat.solver.requests import Requests
from caffe_compat.solver.schedule import Schedule
from caffe_compat.solver.smoothed_loss import SmoothedLoss
from caffe_compat.solver.snapshot import Snapshots, find_snapshot
from caffe_compat.solver.solver_checks import check_snapshot_folder, check_snapshot_prefix, check_solver
from caffe_compat.solver.train_step import RecordedStep, TrainStep, make_train_step
from caffe_compat.solver.training_state import TrainingState
from caffe_compat.solver.turns import Turns, take_all
from caffe_compat.solver.update import Update

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
    ``precision``: "fp32", "tf32" or "bf16" (see ``caffe_compat.precision``), in force while the solver trains and
    tests; None takes what is in force now.
    ``stop_at_nan``: raise SolverError when the loss is NaN or infinite; by default the log warns of it.

    >>> solver = Solver("solver.prototxt")
    >>> solver.net.copy_from("pretrained.caffemodel")
    >>> solver.solve()

    ``strict``, ``reshape``: how the file's ``weights`` have to fit the train net (see ``Net.copy_from``).
    ``allow_python_layers``: see ``Net``.
    ``may_write``: called before each file of a snapshot, in place of the lock beside them; raises where another process
    has taken this one's place.

    Raises SolverError for a file that Caffe would refuse.
    """

    def __init__(
        self,
        solver: str | os.PathLike[str] | caffe_pb2.SolverParameter,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        log: Log | None = None,
        parallel: Parallel = SINGLE,
        source: str | None = None,
        skip_bad_records: int = 0,
        fast: bool = False,
        precision: str | None = None,
        stop_at_nan: bool = False,
        strict: bool = False,
        reshape: Iterable[str] = (),
        allow_python_layers: bool = False,
        may_write: Callable[[], None] | None = None,
    ) -> None:
        self.param = read_solver(solver)
        self.source = source or (os.fspath(solver) if isinstance(solver, str | os.PathLike) else "<message>")
        self.parallel = parallel
        self.log = log or Log(enabled=parallel.is_root)
        self.device = device_of(solver_gpus(self.param, "", self.source)) if device is None else torch.device(device)
        check_solver(self.param, self.source)
        #: of passes, updates and tests
        self.precision = check_precision(precision or chosen_precision())
        self.schedule = Schedule(self.param, self.source)
        if parallel.is_root:
            check_snapshot_prefix(self.param, self.source)
        if self.param.random_seed >= 0:
            random.set_seed(self.param.random_seed + parallel.rank)
        random.generator()  # made now, so that a snapshot (which saves its state) draws nothing
        self.log.initializing(str(self.param))

        options = NetOptions(
            self.source,
            self.device,
            dtype,
            parallel.rank,
            parallel.count,
            skip_bad_records,
            strict,
            tuple(reshape),
            allow_python_layers,
        )
        nets = build_nets(self.param, options, self.log)
        #: the train net
        self.net: Net = nets[0]
        #: the test nets, which share the train net's parameters by layer name
        self.test_nets: list[Net] = nets[1:]
        if self.precision == "bf16":
            keep_losses_in_float32(step.layer for net in nets for step in net.steps)
        if fast:
            make_fast(nets)
        self.optimizer = build_optimizer(self.param, self.net)
        self.smoothed = SmoothedLoss(self.param.average_loss)
        #: what snapshots hold beside the weights
        self.state = TrainingState(nets, self.optimizer, self.schedule, self.smoothed)
        #: how an iteration's gradients and update are made; another one may be put in its place
        self.train_step: TrainStep = make_train_step(
            self.net,
            self.optimizer,
            param=self.param,
            parallel=parallel,
            precision=self.precision,
            fast=fast,
            log=self.log,
        )
        #: a forward pass of one of the nets without gradients (tests, the final loss); may be replaced like train_step
        self.run_net: Callable[[Net], Result] = partial(forward, precision=self.precision)
        self._update = Update(self.schedule, self.optimizer, self.log)
        self._snapshots = Snapshots(self.param, self.state, parallel, self.log, source=self.source, may_write=may_write)
        self._requests = Requests(parallel, self._snapshots.write)
        self._evaluation = Evaluation(
            self.param,
            self.test_nets,
            log=self.log,
            interrupted=self._requests.answer_while_testing,
            run_net=lambda net: self.run_net(net),
        )
        self._display = Display(self.param, self.net, self.log)
        self._not_finite = NotFinite(self.net, self.log, precision=self.precision, stop=stop_at_nan)
        self._outputs: Mapping[str, Tensor] = {}
        # Whether code that is not the solver's may have run since the last pass, and written to the parameters.
        self._disturbed = True
        self._callbacks: dict[str, list[Callback]] = {"start": [], "gradients_ready": [], "update": []}
        self.log.scaffolding_done()

    # -- what users call ----------------------------------------------------------------

    @property
    def iter(self) -> int:
        """How many updates have been made."""
        return self.state.iteration

    @property
    def graphs(self) -> GraphedStep | None:
        """The recordings of the training step, in fast mode where that is possible."""
        return self.train_step.graphs if isinstance(self.train_step, RecordedStep) else None

    def step(self, iterations: int) -> None:
        """Make ``iterations`` updates, with the tests, displays and snapshots that fall due."""
        with use_precision(self.precision):
            take_all(self._step(iterations))

    def solve(self, resume: str | os.PathLike[str] | None = None) -> None:
        """Train to max_iter, from ``resume`` (a .solverstate) if given; snapshot, display and test at the end.

        SolverError when another process writes snapshots of the same names; from here, or from the first snapshot, to
        ``close`` such a process is refused.
        """
        with use_precision(self.precision):
            take_all(self._solve(resume))

    def solve_in_turns(self, resume: str | os.PathLike[str] | None = None) -> Iterator[int]:
        """``solve``, as far as the next iteration of training or batch of a test at each ``next``; gives ``iter``.

        For several solvers of one process that go on side by side.  Each must find the process's random streams and
        working folder as it left them: see ``caffe_compat.random.own_streams``.
        """
        turns = self._solve(resume)
        while True:
            with use_precision(self.precision):
                try:
                    next(turns)
                except StopIteration:
                    return
            yield self.iter

    def _solve(self, resume: str | os.PathLike[str] | None) -> Turns[None]:
        if self.parallel.is_root and self.param.snapshot_after_train:
            check_snapshot_folder(self.param, self.source)  # now, and not after a week
        if self.param.snapshot or self.param.snapshot_after_train:
            self._snapshots.hold()
        self.log.solving(self.net.name, self.param.lr_policy)
        if resume is not None:
            self.log.restoring(resume)
            self.restore(resume)
        yield from self._step(max(0, self.param.max_iter - self.iter))
        if self.param.snapshot_after_train and not self._snapshots.is_due():
            self.snapshot()
        if self._requests.stopping:
            self.log.stopped_early()
            return
        if self._display.is_due(self.iter):
            self.smoothed.add(self.run_net(self.net)[1])
            self.log.final_loss(self.iter, self.smoothed.value())
        if self.param.test_interval and self.iter % self.param.test_interval == 0:
            yield from self._test_all()
        self.log.done(self.iter)

    def test_all(self) -> None:
        """Run every test net over its test_iter batches and log the mean outputs."""
        with use_precision(self.precision):
            take_all(self._test_all())

    def _test_all(self) -> Turns[None]:
        if not self.parallel.is_root:
            return
        for number in range(len(self.test_nets)):
            if not self._requests.stopping:
                yield from self._evaluation.run(self.iter, number)

    def test(self, number: int = 0) -> list[Score]:
        """Run one test net over its test_iter batches; logs and returns the mean of each output."""
        with use_precision(self.precision):
            return take_all(self._evaluation.run(self.iter, number))

    @property
    def learning_rate(self) -> float:
        """The rate of the next update."""
        return self._update.rate(self.iter)

    def apply_update(self) -> None:
        """Make one update from the gradients as they are, at the rate of this iteration; ``iter`` counts it."""
        self._update.make(self.train_step, self.iter, display=False)
        self.state.iteration += 1

    def snapshot(self) -> Path | None:
        """Write the weights, our resume file and the solver state; returns the state's path.

        Names as Caffe's: ``<snapshot_prefix>_iter_<iter>.caffemodel`` and ``.solverstate``, with ``.h5`` appended
        for snapshot_format HDF5.  In parallel training only the root writes; the others return None.
        """
        return self._snapshots.write()

    def let_others_write(self) -> None:
        """Let other processes write snapshots of these names, until the next one of ours; ``close`` does it, too."""
        self._snapshots.let_go()

    def newest_snapshot(self) -> Path | None:
        """The newest whole snapshot with this file's prefix and net; others are passed over with a warning in the log.

        SolverError where there are none but those of another net.
        """
        return find_snapshot(self.param.snapshot_prefix, self.log, self._snapshots.check)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continue from a .solverstate or .solverstate.h5, ours or Caffe's.

        With our resume file beside it, data position and random state are restored too.
        """
        self._snapshots.restore(path)

    def add_callback(
        self,
        on_start: Callback | None = None,
        on_gradients_ready: Callback | None = None,
        on_update: Callback | None = None,
    ) -> None:
        """Call functions with this solver before each iteration's passes, between gradients and update, and after
        the update (when ``iter`` counts it).
        """
        given = {"start": on_start, "gradients_ready": on_gradients_ready, "update": on_update}
        for moment, function in given.items():
            if function is not None:
                self._callbacks[moment].append(function)

    def set_action_function(self, function: Callable[[], str]) -> None:
        """``function`` is asked after each iteration (and test batch) for "none", "stop" or "snapshot"."""
        self._requests.action = function

    def train_outputs(self) -> Mapping[str, Tensor]:
        """The train net's output blobs in the last training pass."""
        return self._outputs

    def close(self) -> None:
        """Release the data layers' files and threads, the snapshots' names, and the log's files."""
        for net in (self.net, *self.test_nets):
            net.close()
        self._snapshots.let_go()
        self.log.close()

    # -- one iteration ------------------------------------------------------------------

    def _step(self, iterations: int) -> Turns[None]:
        self.state.start_window()
        self._requests.stopping = False
        self._display.restart(self.iter)
        stop = self.iter + iterations
        self._disturbed = True
        while self.iter < stop and not self._requests.stopping:
            yield from self._iterate()

    def _iterate(self) -> Turns[None]:
        display = self._display.is_due(self.iter)
        self.train_step.clear_gradients()
        if self._evaluation.is_due(self.iter):
            self._disturbed = True
            yield from self._test_all()
            if self._requests.stopping:
                return
        self._call("start")
        self.train_step.undisturbed, self._disturbed = not self._disturbed, display
        try:
            self._outputs, loss = self.train_step.accumulate(self.param.iter_size, display=display)
        except (MemoryError, RuntimeError) as error:
            self.net.fail_without_memory(error, "a pass forward and backward")
            raise
        self.smoothed.add(loss)
        if display:
            self._display.show(self.iter, self.smoothed.value(), self._outputs)
            self._not_finite.check(self.iter, self.smoothed, self.train_step.batch)
        else:
            self._not_finite.watch(self.iter, loss, self.train_step.batch)
        self.train_step.batch = {}  # its memory is wanted
        self._call("gradients_ready")
        self._update.make(self.train_step, self.iter, display=display)
        self.state.iteration += 1
        self._call("update")
        snapshot_due = self._snapshots.is_due()
        self._disturbed |= snapshot_due or self._requests.asks_user
        self._requests.answer(snapshot_due=snapshot_due)
        yield

    def _call(self, moment: str) -> None:
        for function in self._callbacks[moment]:
            self._disturbed = True
            function(self)
