"""What a layer does to each channel by itself, as numbers that another layer can take over."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChannelForm:
    """top = min(max(leak(scale * x + shift), floor), ceiling), with leak(v) = v where v >= 0, else slope * v.

    ``scale``, ``shift`` and ``slopes`` have one number for each channel (axis 1), or for all; None: 1, 0 and no leak.
    NaN stays NaN.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    slopes: Tensor | None = None
    floor: float = -math.inf
    ceiling: float = math.inf

    @property
    def is_linear(self) -> bool:
        """Whether it only multiplies and adds."""
        return self.slopes is None and self.floor == -math.inf and self.ceiling == math.inf

    @property
    def only_cuts(self) -> bool:
        """Whether it neither multiplies nor adds."""
        return self.scale is None and self.shift is None

    def after(self, first: "ChannelForm") -> "ChannelForm | None":
        """The form that does ``first`` and then this; None where one form cannot."""
        if not first.is_linear:
            return None
        if self.only_cuts:
            return ChannelForm(first.scale, first.shift, self.slopes, self.floor, self.ceiling)
        scale, shift = first.scale, first.shift
        if self.scale is not None:
            scale = self.scale if scale is None else scale * self.scale
            shift = None if shift is None else shift * self.scale
        if self.shift is not None:
            shift = self.shift if shift is None else shift + self.shift
        return ChannelForm(scale, shift, self.slopes, self.floor, self.ceiling)

    def apply(self, x: Tensor) -> Tensor:
        """The form on ``x`` (N, C, ...), never in place."""

        def spread(numbers: Tensor) -> Tensor:
            return numbers.to(x).reshape(-1, *[1] * (x.dim() - 2))

        if self.scale is not None:
            x = x * spread(self.scale)
        if self.shift is not None:
            x = x + spread(self.shift)
        if self.slopes is not None:
            x = torch.where(x < 0, x * spread(self.slopes), x)
        if self.floor == 0 and self.ceiling == math.inf:
            return torch.relu(x)
        return x if self.floor == -math.inf and self.ceiling == math.inf else x.clamp(self.floor, self.ceiling)
