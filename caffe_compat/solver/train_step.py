"""The ways to make one iteration's gradients and update: one interface, a class for each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.ops import conv_choice
from caffe_compat.precision import autocast
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver.debug_info import DebugPass
from caffe_compat.solver.graphs import CudaRecorder, GraphedStep, Recorder, obstacle
from caffe_compat.solver.log import Log
from caffe_compat.solver.parallel import Parallel
from caffe_compat.solver.rules import Rule

Outputs = Mapping[str, Tensor]


class TrainStep(ABC):
    """One training iteration is ``clear_gradients``, ``forward_backward`` iter_size times, ``update``."""

    def __init__(self, optimizer: Rule) -> None:
        self.optimizer = optimizer
        #: what the last pass read, until the solver has looked at the loss; empty where that is not known, and on a
        #: device in iterations that are not displayed
        self.batch: Mapping[str, Tensor] = {}
        #: whether nobody but the solver has run since the last pass; it says so before each iteration's first
        self.undisturbed = False

    def clear_gradients(self) -> None:
        """An iteration begins without gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    @abstractmethod
    def forward_backward(self, *, last: bool = True, display: bool = False) -> tuple[Outputs, Tensor]:
        """One pass that adds to ``param.grad``: (output blobs, loss), detached.

        ``last``: of the iteration's passes; several processes average their gradients in it.  ``display``: whether
        the iteration is one that the log displays.
        """

    def accumulate(self, passes: int, *, display: bool) -> tuple[Outputs, Tensor]:
        """``passes`` (iter_size, at least 1) of them: (output blobs of the last, mean loss)."""
        outputs, total = self.forward_backward(last=passes == 1, display=display)
        self.undisturbed = True
        for i in range(1, passes):
            outputs, loss = self.forward_backward(last=i == passes - 1, display=display)
            total = total + loss
        self.undisturbed = False
        return outputs, total / passes if passes > 1 else total

    def update(self) -> None:
        """Update the parameters at the rates that the optimizer's groups say."""
        self.optimizer.step()


class PlainStep(TrainStep):
    """A pass of the net under autograd.

    ``overlap``: send gradients to the other processes while the backward pass still runs (layer_wise_reduce).
    """

    def __init__(self, net: Net, optimizer: Rule, *, parallel: Parallel, overlap: bool, precision: str) -> None:
        super().__init__(optimizer)
        self.net, self.parallel, self.precision = net, parallel, precision
        self._pass = parallel.wrap(net, overlap=overlap)

    def forward_backward(self, *, last: bool = True, display: bool = False) -> tuple[Outputs, Tensor]:
        known = self.parallel.count == 1 and (display or self.net.device.type == "cpu")
        self.batch = self.net.next_batch() if known else {}
        with self.parallel.accumulating(self._pass, last=last):
            with autocast(self.net.device, self.precision):
                outputs, loss = self._pass(**self.batch)
            if loss.requires_grad:
                loss.backward()
        return {name: value.detach() for name, value in outputs.items()}, loss.detach()


class DebugStep(PlainStep):
    """With debug_info: at displays the pass runs layer by layer and logs the blobs."""

    def __init__(
        self, net: Net, optimizer: Rule, *, parallel: Parallel, overlap: bool, precision: str, log: Log
    ) -> None:
        super().__init__(net, optimizer, parallel=parallel, overlap=overlap, precision=precision)
        self._log = log

    def forward_backward(self, *, last: bool = True, display: bool = False) -> tuple[Outputs, Tensor]:
        if not display:
            return super().forward_backward(last=last)
        self.batch = {}
        result = DebugPass(self.net, self._log).run()
        if last:
            self.parallel.average(p.grad for p in self.net.parameters() if p.grad is not None)
        return result


class RecordedStep(TrainStep):
    """Passes and updates recorded once and replayed, as CUDA graphs; the output blobs are valid until the next pass."""

    def __init__(self, net: Net, optimizer: Rule, recorder: Recorder, *, precision: str, log: Log) -> None:
        super().__init__(optimizer)
        self._net = net

        def run(batch: Mapping[str, Tensor]) -> tuple[Outputs, Tensor]:
            with autocast(net.device, precision):
                return net.forward_with_loss(**batch)

        self.graphs = GraphedStep(net, optimizer, run, recorder, log.graphs)

    def clear_gradients(self) -> None:
        self.graphs.clear_gradients()

    def forward_backward(self, *, last: bool = True, display: bool = False) -> tuple[Outputs, Tensor]:
        batch = self._net.next_batch()
        self.batch = batch if display or self._net.device.type == "cpu" else {}
        return self.graphs.forward_backward(batch, undisturbed=self.undisturbed)

    def update(self) -> None:
        self.graphs.update()


def make_train_step(
    net: Net,
    optimizer: Rule,
    *,
    param: caffe_pb2.SolverParameter,
    parallel: Parallel,
    precision: str,
    fast: bool,
    log: Log,
) -> TrainStep:
    """The step for a solver file: with ``fast`` as CUDA graphs, unless something is in the way, which the log tells."""
    if fast:
        if net.device.type == "cuda":
            log.convolutions(conv_choice.describe(net.device))
        reason = obstacle(net, param.debug_info, parallel.count)
        if reason is None:
            return RecordedStep(net, optimizer, CudaRecorder(net.device), precision=precision, log=log)
        log.graphs(f"Fast mode without CUDA graphs: {reason}")
    overlap = param.layer_wise_reduce
    if param.debug_info:
        return DebugStep(net, optimizer, parallel=parallel, overlap=overlap, precision=precision, log=log)
    return PlainStep(net, optimizer, parallel=parallel, overlap=overlap, precision=precision)
