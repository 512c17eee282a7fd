"""GeneralContrastiveLoss: near the centre of the own class, a margin from the others (caffe-windows, NormFace)."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.loss import check_same_batch

# How much of its average the layer keeps in each forward, and how much it adds of the batch's mean distance.
_KEPT, _ADDED = 0.99, 0.01


class _Loss(torch.autograd.Function):
    """The sum of |terms| over N, with the fork's gradient for the distances; all (N, C)."""

    @staticmethod
    def forward(ctx: Any, distances: Tensor, terms: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        return terms.abs().sum() / distances.shape[0]

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * (top_diffs[0] / slopes.shape[0]), None, None


@register("GeneralContrastiveLoss")
class GeneralContrastiveLoss(Layer):
    """Distances (N, C) of features to the centres of C classes and labels (N,) -> scalar, and with a second top the
    mean distances (2,) or (3,).

    A distance d to the own class adds ``positive_weight`` min(max(d - positive_margin, 0), positive_outlier_thresh),
    one to another class ``negative_weight`` max(negative_margin - d, 0), or with ``exp_negative_weight`` that weight
    times exp(-d) where d is below the margin; the loss is the sum over N.  ``add_intra_mae``: a running average of the
    own classes' terms, at most ``max_negative_margin``, is added to the negative margin (the third number of top 1).
    ``positive_first``: a row whose own distance is above ``positive_upper_bound`` has that term only.
    ``max_negative_only``: the largest other term of a row only; ``max_positive_only``: of all own terms the smallest
    only, as the fork compares.

    The gradient is the fork's: own terms of a distance (not the distance less the margin) beyond
    ``positive_outlier_thresh`` have none, and ``normalize_negative`` (where it is set) divides those of the others by
    their sum over N and that number, if this is above ``positive_weight``.
    """

    param_fields = ("general_contrastive_loss_param",)
    bottom_count = (2, 2)
    top_count = (1, 2)
    is_loss = True
    keeps_forward = True
    reads_again = (0, 1)
    no_gradient_bottoms = (1,)
    graph_safe = True

    intra_mae: Tensor

    def setup(self, distances: Shape, labels: Shape) -> None:
        param = self.param.general_contrastive_loss_param
        if param.square:
            self.fail("general_contrastive_loss_param.square is not computed by the fork, either; expected false")
        self.positive_margin, self.negative_margin = float(param.positive_margin), float(param.negative_margin)
        self.positive_weight, self.negative_weight = float(param.positive_weight), float(param.negative_weight)
        self.outlier, self.upper_bound = float(param.positive_outlier_thresh), float(param.positive_upper_bound)
        self.normalizer = float(param.normalize_negative) if param.HasField("normalize_negative") else None
        self.max_negative_only, self.max_positive_only = bool(param.max_negative_only), bool(param.max_positive_only)
        self.positive_first, self.exponential = bool(param.positive_first), bool(param.exp_negative_weight)
        self.add_intra_mae, self.most_intra_mae = bool(param.add_intra_mae), float(param.max_negative_margin)
        self.register_buffer("intra_mae", torch.zeros((), dtype=self.context.dtype), persistent=False)

    def infer_shapes(self, distances: Shape, labels: Shape) -> list[Shape]:
        check_same_batch(self, distances, labels)
        if len(distances) < 2 or count(labels) != distances[0]:
            self.fail(
                f"bottoms have shapes {distances} and {labels}; expected (N, C) and a label for each of the batch"
            )
        tops: list[Shape] = [(), (3 if self.add_intra_mae else 2,)]
        return tops[: self.num_tops]

    def forward(self, distances: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        rows = distances.flatten(1)
        n, classes = rows.shape
        index = to_indices(self, labels, classes, "label").flatten()
        with torch.no_grad():
            values = rows.detach()
            margin = self.negative_margin + (self.intra_mae if self.add_intra_mae else 0)
            own = index.unsqueeze(1) == torch.arange(classes, device=index.device)
            near = ~own & (values < margin)
            excess = (values - self.positive_margin).clamp(min=0).clamp(max=self.outlier) * own
            missing = (margin - values) * near
            means = [excess.sum() / n, missing.sum() / n / (classes - 1)]
            terms, slopes = self._terms(values, own, near, (excess, missing))
            self.intra_mae.mul_(_KEPT).add_(_ADDED * means[0]).clamp_(max=self.most_intra_mae)
            means += [self.intra_mae] if self.add_intra_mae else []
        loss: Tensor = _Loss.apply(rows, terms, slopes)
        return loss if self.num_tops == 1 else (loss, torch.stack(means))

    def _terms(self, values: Tensor, own: Tensor, near: Tensor, parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What each distance adds to the loss, and its gradient: (N, C)."""
        fade = torch.exp(-values)
        of_own, of_others = parts[0] * self.positive_weight, parts[1] * self.negative_weight
        in_reach = own & (values > self.positive_margin) & (values < self.outlier)
        slope_own = in_reach.to(values.dtype) * self.positive_weight
        slope_others = near.to(values.dtype) * -self.negative_weight
        if self.exponential:
            slope_others = slope_others * fade
            of_others = -slope_others
        if self.max_negative_only:
            largest = _largest(of_own, of_others, own, near)
            of_others, slope_others = of_others * largest, slope_others * largest
        if self.max_positive_only:
            smallest = torch.arange(len(values), device=values.device) == of_own.sum(1).argmin()
            of_own, slope_own = of_own * smallest.unsqueeze(1), slope_own * smallest.unsqueeze(1)
        if self.positive_first:
            far = (values * own).sum(1, keepdim=True) > self.upper_bound
            of_others, slope_others = of_others * ~far, slope_others * ~far
            slope_own = torch.where(far, own.to(values.dtype) * self.positive_weight, slope_own)
        if self.normalizer is not None:
            total = slope_others.sum().abs() / self.normalizer / len(values)
            slope_others = torch.where(total > self.positive_weight, slope_others / total, slope_others)
        return of_own + of_others, slope_own + slope_others

    def index_limits(self, distances: Shape, labels: Shape) -> dict[int, int]:
        return {1: count(distances, 1)}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, classes = dice.integer(1, 5), dice.integer(2, 4)
        switches = " ".join(
            f"{name}: {dice.switch()}"
            for name in ("max_negative_only", "max_positive_only", "positive_first", "exp_negative_weight")
        )
        fields = f"positive_margin: {dice.number(-1, 1)} negative_margin: {dice.number(-1, 2)} {switches}"
        bottoms = [dice.normal(n, classes), dice.indices(classes, n)]
        return Example(f"general_contrastive_loss_param {{ {fields} }}", bottoms, tops=dice.integer(1, 2))


def _largest(of_own: Tensor, of_others: Tensor, own: Tensor, near: Tensor) -> Tensor:
    """Which of a row's terms is the largest of the other classes, the first one where several are (N, C).

    The fork begins with the first column whatever it holds, so that a row of class 0 has none unless one is larger than
    its own term.
    """
    terms = torch.where(near, of_others, float("-inf"))
    terms[:, 0] = torch.where(own[:, 0], of_own[:, 0], of_others[:, 0])
    return torch.arange(terms.shape[1], device=terms.device) == terms.argmax(1, keepdim=True)
