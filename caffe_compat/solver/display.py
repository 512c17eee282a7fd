"""What training shows at every ``display`` iterations."""

import time
from collections.abc import Mapping

from torch import Tensor

from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver.log import Log
from caffe_compat.solver.scores import make_scores


class Display:
    """Logs the smoothed loss, the train net's outputs and the speed since the last display."""

    def __init__(self, param: caffe_pb2.SolverParameter, net: Net, log: Log) -> None:
        self._interval, self._net, self._log = param.display, net, log
        self._iteration, self._time = 0, time.perf_counter()

    def restart(self, iteration: int) -> None:
        """Count the speed from here."""
        self._iteration, self._time = iteration, time.perf_counter()

    def is_due(self, iteration: int) -> bool:
        """Whether this iteration shows something."""
        return bool(self._interval) and iteration % self._interval == 0

    def show(self, iteration: int, loss: float, outputs: Mapping[str, Tensor]) -> None:
        """Write one display; ``outputs``: the output blobs of the last pass."""
        now = time.perf_counter()
        wall_s = now - self._time
        speed = (iteration - self._iteration) / (wall_s or 1.0)
        self._iteration, self._time = iteration, now
        values = [float(v) for name in self._net.outputs if name in outputs for v in outputs[name].detach().reshape(-1)]
        scores = make_scores(self._net, outputs, values)
        self._log.train(iteration, loss, scores, iterations_per_s=speed, wall_s=wall_s, display=self._interval)
