"""InfogainLoss: the softmax loss with a matrix of weights, one row per label."""

from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import ProtoError
from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.multinomial_logistic_loss import LOG_THRESHOLD
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.loss import check_same_batch, normalization_mode, normalizer, random_normalization
from caffe_compat.proto import caffe_pb2, read_blob


class _WeightedLogLoss(torch.autograd.Function):
    """-sum over classes of rows * log(max(p, LOG_THRESHOLD)); its gradient ignores the floor, as in Caffe."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, rows: Tensor) -> Tensor:
        # scores and rows (outer, classes, inner) -> (outer, inner)
        p = torch.softmax(scores, 1)
        ctx.save_for_backward(p, rows)
        return -(rows * p.clamp(min=LOG_THRESHOLD).log()).sum(1)

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor, None]:
        p, rows = ctx.saved_tensors
        return (p * rows.sum(1, keepdim=True) - rows) * top_diffs[0].unsqueeze(1), None


@register("InfogainLoss")
class InfogainLoss(Layer):
    """Scores (N, C, ...), labels (N, ...) and weights with C * C values -> scalar loss, and with a
    second top the probabilities.  The weights H come as a bottom, or from the ``.binaryproto``
    file ``source``: a prediction of class k for label l costs -H[l, k] log p(k).
    """

    param_fields = ("infogain_loss_param", "loss_param")
    bottom_count = (2, 3)
    top_count = (1, 2)
    is_loss = True
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1, 2)
    forced_bottoms = (2,)
    graph_safe = True
    constant_buffers = ("weights",)

    weights: Tensor

    def setup(self, scores: Shape, labels: Shape, weights: Shape | None = None) -> None:
        loss_param = self.param.loss_param
        if loss_param.HasField("normalize"):
            self.fail("loss_param.normalize is not for this type; use normalization")
        self.mode = normalization_mode(loss_param)
        self.axis = int(self.param.infogain_loss_param.axis)
        self.ignore_label = int(loss_param.ignore_label) if loss_param.HasField("ignore_label") else None
        self.num_tops = max(1, len(self.param.top))
        if self.context.shapes_only and weights is None:
            values = torch.empty(scores[self.axis % len(scores)] ** 2, device="meta")  # its file may be elsewhere
        else:
            values = self._read_weights() if weights is None else torch.empty(0)
        self.register_buffer("weights", values, persistent=False)

    def _read_weights(self) -> Tensor:
        param = self.param.infogain_loss_param
        if not param.HasField("source"):
            self.fail("needs its matrix of weights: a third bottom, or the file infogain_loss_param.source")
        try:
            return torch.tensor(read_blob(param.source), dtype=self.context.dtype).flatten()
        except ProtoError as error:
            self.fail(f"infogain_loss_param.source: {error}")

    def infer_shapes(self, scores: Shape, labels: Shape, weights: Shape | None = None) -> list[Shape]:
        check_same_batch(self, scores, labels)
        axis = self.canonical_axis(self.axis, len(scores), "infogain_loss_param.axis")
        expected = count(scores, 0, axis) * count(scores, axis + 1)
        if count(labels) != expected:
            self.fail(
                f"{count(labels)} labels (shape {labels}) for {expected} predictions ({scores}, class axis {axis})"
            )
        values = self.weights.numel() if weights is None else count(weights)
        if values != scores[axis] ** 2:
            self.fail(f"the matrix of weights has {values} values; expected {scores[axis]} x {scores[axis]}")
        return [(), scores][: self.num_tops]

    def forward(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        axis = self.axis % scores.dim()
        outer, classes = count(scores.shape, 0, axis), scores.shape[axis]
        inner = count(scores.shape, axis + 1)
        flat_labels = labels.detach().reshape(outer, inner)
        if self.ignore_label is None:
            counted = torch.ones_like(flat_labels, dtype=torch.bool)
        else:
            counted = flat_labels.long() != self.ignore_label
            flat_labels = torch.where(counted, flat_labels, torch.zeros_like(flat_labels))
        label = to_indices(self, flat_labels, classes, "label")
        matrix = self.weights if weights is None else weights.detach()
        # (outer, inner, classes) -> (outer, classes, inner)
        rows = (matrix.reshape(classes, classes)[label] * counted.unsqueeze(-1)).transpose(1, 2)
        losses = _WeightedLogLoss.apply(scores.reshape(outer, classes, inner), rows)
        loss: Tensor = losses.sum() / normalizer(self.mode, outer, inner, counted.sum().to(scores.dtype))
        if self.num_tops < 2:
            return loss
        return loss, torch.softmax(scores.detach(), axis)

    def index_limits(self, scores: Shape, *others: Shape) -> dict[int, int]:
        return {1: scores[self.axis % len(scores)]}

    def deploy_form(self) -> caffe_pb2.LayerParameter:
        form = caffe_pb2.LayerParameter(name="prob", type="Softmax", bottom=self.param.bottom[:1], top=["prob"])
        form.softmax_param.axis = self.axis
        return form

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h = dice.integer(1, 4), dice.integer(2, 5), dice.integer(1, 3)
        bottoms = [dice.normal(n, c, h), dice.indices(c, n, h), dice.normal(c, c)]
        return Example(f"loss_param {{ {random_normalization(dice)} }}", bottoms)
