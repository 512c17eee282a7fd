"""pycaffe's solvers: the package's Solver, run over the facade's blobs."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.net import Net as CoreNet
from caffe_compat.proto import caffe_pb2, read_solver
from caffe_compat.pycaffe import mode
from caffe_compat.pycaffe.nccl import NCCL, Independent
from caffe_compat.pycaffe.net import Net
from caffe_compat.solver import Rule
from caffe_compat.solver import Solver as CoreSolver
from caffe_compat.solver.train_step import TrainStep


class BlobStep(TrainStep):
    """A training pass over the blobs that ``solver.net`` shows."""

    def __init__(self, net: Net, optimizer: Rule) -> None:
        super().__init__(optimizer)
        self._net = net

    def clear_gradients(self) -> None:
        self._net.clear_param_diffs()  # in place: views of diffs that a caller holds stay valid

    def forward_backward(self, *, last: bool = True, display: bool = False) -> tuple[Mapping[str, Tensor], Tensor]:
        loss = self._net.run_all()
        self._net.run_all_backward()
        return self._net.output_tensors(), torch.tensor(loss)

    def update(self) -> None:
        self._net.engine.flush()  # what a caller has written into diffs
        super().update()


class Solver:
    """What all solvers have; ``net`` and ``test_nets`` are facade nets over the solver's own."""

    #: the update rule, whatever the file says
    type: str

    def __init__(self, solver_file: str | os.PathLike[str]) -> None:
        param = read_solver(solver_file)
        param.type = self.type
        parallel = Independent(mode.solver_rank(), mode.solver_count())
        self.core = CoreSolver(
            param,
            device=mode.device(),
            source=os.fspath(solver_file),
            parallel=parallel,
            allow_python_layers=True,  # as in Caffe: who calls this runs Python of their own already
        )
        self.core.optimizer.keep_update = True  # after a step a parameter's diff holds its update
        self.net = Net.of(self.core.net)
        self.core.train_step = BlobStep(self.net, self.core.optimizer)
        self.test_nets = [Net.of(net, self.net.engine.place) for net in self.core.test_nets]
        self._facades = {id(net.core): net for net in (self.net, *self.test_nets)}
        self.core.run_net = self._run_net

    def _run_net(self, core: CoreNet) -> tuple[Mapping[str, Tensor], Tensor]:
        """Run one of the nets so that its blobs show the pass."""
        self.net.engine.flush()
        net = self._facades[id(core)]
        loss = net.run_all()
        return net.output_tensors(), torch.tensor(loss)

    @property
    def param(self) -> caffe_pb2.SolverParameter:
        """The solver file; ``base_lr`` may be set."""
        return self.core.param

    @property
    def iter(self) -> int:
        """How many updates have been made."""
        return self.core.iter

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self.core.learning_rate

    def step(self, iterations: int) -> None:
        """Run ``iterations`` updates."""
        with self._writing():
            self.core.step(iterations)

    def solve(self, resume: str | None = None) -> None:
        """Train to max_iter, after restoring ``resume`` if given."""
        if resume is not None:
            self.restore(resume)
        with self._writing():
            self.core.solve()

    def apply_update(self) -> None:
        """Make one update from the diffs as they are; ``iter`` counts it, as since Caffe has this method."""
        self.core.apply_update()

    def add_callback(
        self, on_start: "Callable[[], object] | NCCL", on_gradients_ready: Callable[[], object] | None = None
    ) -> None:
        """Call functions before each iteration's passes, and between gradients and update; or let an NCCL average
        the gradients of all processes."""
        if isinstance(on_start, NCCL):
            self.core.add_callback(on_gradients_ready=lambda _: on_start.on_gradients_ready())
            return
        if on_gradients_ready is None:
            raise SolverError("add_callback takes two functions (on_start, on_gradients_ready) or an NCCL")

        def start(_: CoreSolver) -> None:
            on_start()

        def gradients_ready(_: CoreSolver) -> None:
            on_gradients_ready()

        self.core.add_callback(start, gradients_ready)

    def share_weights(self, net: Net) -> None:
        """Let the parameters of ``net``'s layers be those of the train net's layers of the same name."""
        net.share_with(self.net)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continue from a solverstate."""
        self.net.engine.flush()
        self.core.restore(path)

    def snapshot(self) -> None:
        """Write a caffemodel and a solverstate."""
        self.net.engine.flush()
        with self._writing():
            self.core.snapshot()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A call that may write snapshots: other processes are kept from that while it lasts, and no longer, as nobody
        closes a solver here."""
        try:
            yield
        finally:
            self.core.let_others_write()


class SGDSolver(Solver):
    type = "SGD"


class NesterovSolver(SGDSolver):
    type = "Nesterov"


class AdaGradSolver(SGDSolver):
    type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    type = "AdaDelta"


class AdamSolver(SGDSolver):
    type = "Adam"


_KINDS = (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
_CLASSES = {kind.type: kind for kind in _KINDS}


def get_solver(solver_file: str | os.PathLike[str]) -> Solver:
    """The solver that the file describes; its class follows the file's type."""
    kind = read_solver(solver_file).type
    if kind in _CLASSES:
        return _CLASSES[kind](solver_file)
    # A rule that the user has registered; where there is none, the error says which there are.
    user_kind: type[Solver] = type(f"{kind}Solver", (SGDSolver,), {"type": kind})
    return user_kind(solver_file)
