"""L1Loss: the absolute difference of two bottoms, or at each place the length of the difference (FlowNet)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example


@register("L1Loss")
class L1Loss(Layer):
    """Bottoms a and b (N, C, ...) of one shape, or a difference d alone -> scalar, sum of |d| over N.

    NaN in d counts as nothing.  ``l2_per_location``: the sum over places of sqrt(sum over C of d^2 + epsilon), the
    inner sum divided by C with ``l2_prescale_by_channels``.  ``normalize_by_num_entries``: over the number of places
    that are not NaN.  A |d| (or a length) below ``plateau`` counts as 0.  The gradient of |d| at 0 is -1.
    """

    param_fields = ("l1_loss_param",)
    bottom_count = (1, 2)
    is_loss = True
    keeps_forward = True
    graph_safe = True

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.l1_loss_param
        self.per_location, self.prescale = bool(param.l2_per_location), bool(param.l2_prescale_by_channels)
        self.by_entries = bool(param.normalize_by_num_entries)
        self.epsilon, self.plateau = float(param.epsilon), float(param.plateau)

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        if len(bottoms[0]) < 2 or bottoms[0] != bottoms[-1]:
            self.fail(f"bottoms have shapes {' and '.join(map(str, bottoms))}; expected the same (N, C, ...)")
        return [()]

    def forward(self, *bottoms: Tensor) -> Tensor:
        diff = bottoms[0] if len(bottoms) == 1 else bottoms[0] - bottoms[1]
        known = ~diff.isnan()
        entries = known.sum().to(diff.dtype) / diff.shape[1] if self.by_entries else diff.shape[0]
        if self.per_location:
            total = self._lengths(torch.where(known, diff, 0)).sum()
        else:
            counts = known & (diff.abs() >= self.plateau) if self.plateau > 0 else known
            signs = torch.where(diff > 0, 1, -1).to(diff.dtype)
            total = torch.where(counts, diff * signs, 0).sum()
        return total / entries

    def _lengths(self, diff: Tensor) -> Tensor:
        squares = diff.square().sum(1)
        if self.prescale:
            squares = squares / diff.shape[1]
        if self.plateau > 0:
            squares = torch.where(squares < self.plateau**2, 0, squares)
        return (squares + self.epsilon).sqrt()

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.image()
        fields = f"l2_per_location: {dice.switch()} l2_prescale_by_channels: {dice.switch()}"
        fields += f" normalize_by_num_entries: {dice.switch()} plateau: {dice.pick(0, 0.3)}"
        bottoms = [dice.normal(*shape) for _ in range(dice.integer(1, 2))]
        bottoms[0].flat[0] = float("nan")
        return Example(f"l1_loss_param {{ {fields} }}", bottoms)
