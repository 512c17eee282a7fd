"""The loss averaged over the last iterations, kept on the device until someone looks."""

from collections import deque

import torch
from torch import Tensor


class SmoothedLoss:
    """Mean of the last ``average_loss`` losses (0-d tensors); adding one does not wait for the device."""

    def __init__(self, average_loss: int) -> None:
        self._losses: deque[Tensor] = deque(maxlen=average_loss)

    def clear(self) -> None:
        """Forget all; Caffe does at the start of each ``step(n)``."""
        self._losses.clear()

    def add(self, loss: Tensor) -> None:
        """Append one iteration's loss; the oldest leaves when the window is full."""
        self._losses.append(loss.detach())

    def value(self) -> float:
        """The mean (waits for the device); NaN when nothing was added."""
        if not self._losses:
            return float("nan")
        return float(torch.stack([loss.double() for loss in self._losses]).mean())

    def get_state(self) -> list[float]:
        """The window, oldest first."""
        return [float(loss) for loss in self._losses]

    def set_state(self, losses: list[float], device: torch.device) -> None:
        """Continue from a ``get_state``, with the losses to come on ``device``."""
        self._losses.clear()
        self._losses.extend(torch.tensor(loss, dtype=torch.float64, device=device) for loss in losses)
