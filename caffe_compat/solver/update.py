"""The last part of an iteration: the learning rate, the update, and what the log says of them."""

import numpy as np

from caffe_compat.solver.log import Log
from caffe_compat.solver.rules import Rule
from caffe_compat.solver.schedule import Schedule
from caffe_compat.solver.train_step import TrainStep


class Update:
    """Brings the schedule's rate to the rule's parameter groups and makes the update."""

    def __init__(self, schedule: Schedule, optimizer: Rule, log: Log) -> None:
        self._schedule, self._optimizer, self._log = schedule, optimizer, log

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration; in float32, as Caffe's Dtype."""
        return float(np.float32(self._schedule.rate(iteration)))

    def make(self, step: TrainStep, iteration: int, *, display: bool) -> None:
        """The update of one iteration, made by ``step``; ``display``: whether the log tells the rate."""
        step_before = self._schedule.current_step
        rate = self.rate(iteration)
        if self._schedule.tells_step and self._schedule.current_step != step_before:
            self._log.multistep_status(iteration, self._schedule.current_step)
        if display:
            self._log.learning_rate(iteration, rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            group["iteration"] = iteration
        step.update()
        self._log_clipping(display=display)

    def _log_clipping(self, *, display: bool) -> None:
        # On CUDA reading the norm waits for the device, so only where a display waits anyway.
        norm, scale = self._optimizer.last_norm, self._optimizer.last_scale
        if norm is None or scale is None or not (norm.device.type == "cpu" or display):
            return
        if scale < 1:
            self._log.clipping(float(norm), self._optimizer.clip_gradients, float(scale))
