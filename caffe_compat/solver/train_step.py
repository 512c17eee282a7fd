"""The ways to make one iteration's gradients and update: one interface, a class for each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.precision import autocast
from caffe_compat.solver.debug_info import DebugPass
from caffe_compat.solver.graphs import GraphedStep
from caffe_compat.solver.log import Log
from caffe_compat.solver.parallel import Parallel
from caffe_compat.solver.rules import Rule

Outputs = Mapping[str, Tensor]


class TrainStep(ABC):
    """One training iteration is ``clear_gradients``, ``forward_backward`` iter_size times, ``update``."""

    def __init__(self, optimizer: Rule) -> None:
        self.optimizer = optimizer

    def clear_gradients(self) -> None:
        """An iteration begins without gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    @abstractmethod
    def forward_backward(self, *, last: bool = True) -> tuple[Outputs, Tensor]:
        """One pass that adds to ``param.grad``: (output blobs, loss), detached.

        ``last``: of the iteration's passes; several processes average their gradients in it.
        """

    def accumulate(self, passes: int) -> tuple[Outputs, Tensor]:
        """``passes`` (at least 1, as iter_size) of them: (output blobs of the last, mean loss)."""
        outputs, total = self.forward_backward(last=passes == 1)
        for i in range(1, passes):
            outputs, loss = self.forward_backward(last=i == passes - 1)
            total = total + loss
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
        self._device, self._precision, self._parallel = net.device, precision, parallel
        self._pass = parallel.wrap(net, overlap=overlap)

    def forward_backward(self, *, last: bool = True) -> tuple[Outputs, Tensor]:
        with self._parallel.accumulating(self._pass, last=last):
            with autocast(self._device, self._precision):
                outputs, loss = self._pass()
            if loss.requires_grad:
                loss.backward()
        return {name: value.detach() for name, value in outputs.items()}, loss.detach()


class RecordedStep(TrainStep):
    """Passes and updates recorded once and replayed, as CUDA graphs; the output blobs are valid until the next pass."""

    def __init__(self, net: Net, optimizer: Rule, graphs: GraphedStep) -> None:
        super().__init__(optimizer)
        self.graphs = graphs
        self._net = net

    def clear_gradients(self) -> None:
        self.graphs.clear_gradients()

    def forward_backward(self, *, last: bool = True) -> tuple[Outputs, Tensor]:
        return self.graphs.forward_backward(self._net.next_batch())

    def update(self) -> None:
        self.graphs.update()


class DebugStep(TrainStep):
    """A pass layer by layer that logs the blobs, for the display iterations of a file with debug_info."""

    def __init__(self, net: Net, optimizer: Rule, *, parallel: Parallel, log: Log) -> None:
        super().__init__(optimizer)
        self._net, self._parallel, self._log = net, parallel, log

    def forward_backward(self, *, last: bool = True) -> tuple[Outputs, Tensor]:
        result = DebugPass(self._net, self._log).run()
        if last:
            self._parallel.average(p.grad for p in self._net.parameters() if p.grad is not None)
        return result
