"""pycaffe's solvers: the package's Solver, run over the facade's blobs."""

import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe import mode
from caffe_compat.pycaffe.net import Net
from caffe_compat.solver import Rule, Solver
from caffe_compat.solver.train_step import TrainStep


class BlobStep(TrainStep):
    """A training pass over the blobs that ``solver.net`` shows."""

    def __init__(self, net: Net, optimizer: Rule) -> None:
        super().__init__(optimizer)
        self._net = net

    def clear_gradients(self) -> None:
        self._net.clear_param_diffs()  # in place: views of diffs that a caller holds stay valid

    def forward_backward(self, *, last: bool = True, display: bool = False) -> tuple[Mapping[str, Tensor], Tensor]:
        loss = self._net.engine.forward()
        self._net.engine.backward()
        outputs = {name: torch.from_numpy(self._net.blobs[name].data) for name in self._net.outputs}
        return outputs, torch.tensor(loss)


class SGDSolver:
    """Any solver file; ``net`` and ``test_nets`` are facade nets over the solver's own."""

    type: str | None = "SGD"

    def __init__(self, solver_file: str | os.PathLike[str]) -> None:
        self.core = Solver(solver_file, device=mode.device())
        if self.type is not None and self.core.param.type != self.type:
            raise SolverError(
                f'{os.fspath(solver_file)}: type is "{self.core.param.type}", not "{self.type}"; use get_solver()'
            )
        self.core.optimizer.keep_update = True  # after a step a parameter's diff holds its update
        self.net = Net.of(self.core.net)
        self.core.train_step = BlobStep(self.net, self.core.optimizer)
        self.test_nets = [Net.of(net) for net in self.core.test_nets]

    @property
    def param(self) -> caffe_pb2.SolverParameter:
        return self.core.param

    @property
    def iter(self) -> int:
        return self.core.iter

    def step(self, iterations: int) -> None:
        """Run ``iterations`` updates."""
        self.core.step(iterations)

    def solve(self, resume: str | None = None) -> None:
        """Train to max_iter, after restoring ``resume`` if given."""
        if resume is not None:
            self.restore(resume)
        self.core.solve()

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Call functions before each iteration's passes, and between gradients and update."""
        self.core.add_callback(lambda _: on_start(), lambda _: on_gradients_ready())

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continue from a solverstate."""
        self.core.restore(path)

    def snapshot(self) -> None:
        """Write a caffemodel and a solverstate."""
        self.core.snapshot()


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


class _AnySolver(SGDSolver):
    type = None


def get_solver(solver_file: str | os.PathLike[str]) -> SGDSolver:
    """The solver that the file describes, whatever its type."""
    return _AnySolver(solver_file)
