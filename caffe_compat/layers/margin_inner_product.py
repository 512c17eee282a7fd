"""MarginInnerProduct: unit weights, and for the label's class a margin to be kept by its angle (SphereFace)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.indices import to_indices


class _Margin(NamedTuple):
    """For the label's class (Liu et al. 2017), with c = cos of the angle between feature and weight: psi(c), by which
    |x| is multiplied, and the factors of the weight and of x / -|x| in the gradient."""

    psi: Tensor
    of_weight: Tensor
    of_feature: Tensor


def _margin(kind: str, c: Tensor) -> _Margin:
    """psi(angle) = (-1)^k cos(m angle) - 2 k, m = 2, 3 or 4, in powers of c."""
    sign = c.sign()
    if kind == "DOUBLE":
        return _Margin(2 * sign * c**2 - 1, 4 * sign * c, 2 * sign * c**2 + 1)
    if kind == "TRIPLE":
        first = (c.abs() - 0.5).sign()
        second = sign * (1 + first) - 2
        return _Margin(first * (4 * c**3 - 3 * c) + second, first * (12 * c**2 - 3), 8 * first * c**3 - second)
    third = sign * (2 * c**2 - 1).sign()
    fourth = 2 * sign + third - 3
    of_feature = third * (24 * c**4 - 8 * c**2 - 1) - fourth
    return _Margin(third * (8 * c**4 - 8 * c**2 + 1) + fourth, third * (32 * c**3 - 16 * c), of_feature)


class _MarginProduct(torch.autograd.Function):
    """Features (M, K), unit weights (N, K), labels (M,), lambda and the kind of margin -> (M, N).

    The gradient is SphereFace's: the weight's is that of a plain inner product, and in the feature's the label's class
    has a direction of factors scaled to length 1 in place of the true derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, labels: Tensor, margin: tuple[Tensor, str]) -> Tensor:
        top = functional.linear(x, weight)
        lambda_, kind = margin
        ctx.kind = kind
        ctx.save_for_backward(x, weight, labels, lambda_)
        if kind == "SINGLE":
            return top
        length = x.norm(dim=1, keepdim=True)
        own = labels.unsqueeze(1)
        product = top.gather(1, own)
        hard = length * _margin(kind, product / length).psi
        return top.scatter(1, own, (hard + lambda_ * product) / (1 + lambda_))

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, labels, lambda_ = ctx.saved_tensors
        (diff,) = top_diffs
        weight_diff = diff.t() @ x if ctx.needs_input_grad[1] else None
        x_diff = diff @ weight
        if ctx.kind != "SINGLE":
            length = x.norm(dim=1, keepdim=True)
            own = labels.unsqueeze(1)
            own_weight, own_diff = weight[labels], diff.gather(1, own)
            margin = _margin(ctx.kind, (x * own_weight).sum(1, keepdim=True) / length)
            of_feature = margin.of_feature / -length
            scale = torch.hypot(margin.of_weight, of_feature)
            hard = (margin.of_weight * own_weight + of_feature * x) / scale
            x_diff = x_diff + own_diff / (1 + lambda_) * (hard - own_weight)
        return x_diff, weight_diff, None, None


@register("MarginInnerProduct")
class MarginInnerProduct(Layer):
    """Features (M, ...) and labels (M,) -> (M, num_output), and with a second top lambda (1,).  Weight (num_output, K).

    Each forward first makes every row of the weight a unit vector, in place, in TEST too, and counts on ``iteration``;
    lambda = max(base (1 + gamma iteration)^-power, lambda_min).  The label's class gets (|x| psi(angle) + lambda w x) /
    (1 + lambda), with psi of ``type`` DOUBLE, TRIPLE or QUADRUPLE; SINGLE is w x.
    """

    param_fields = ("margin_inner_product_param",)
    onnx_obstacle = "it needs labels, and counts its passes"
    bottom_count = (2, 2)
    top_count = (1, 2)
    keeps_forward = True
    reads_again = (1,)
    no_gradient_bottoms = (1,)
    graph_safe = True
    drawing_kind = "weights"

    iteration: Tensor

    def setup(self, features: Shape, labels: Shape) -> None:
        param = self.param.margin_inner_product_param
        self.num_output = int(param.num_output)
        if self.num_output < 1:
            self.fail("margin_inner_product_param.num_output is missing or 0; expected at least 1")
        self.kind: str = param.MarginType.Name(param.type)
        self.base, self.gamma, self.power = float(param.base), float(param.gamma), float(param.power)
        self.lambda_min = float(param.lambda_min)
        if self.canonical_axis(param.axis, len(features), "margin_inner_product_param.axis") != 1:
            self.fail("margin_inner_product_param.axis must be 1: one label for each of the batch")
        shape = (self.num_output, count(features, 1))
        self.add_blob("weight", shape, lambda t: fill(t, param.weight_filler))
        start = torch.tensor(float(param.iteration), dtype=self.context.dtype)
        self.register_buffer("iteration", start, persistent=False)

    def infer_shapes(self, features: Shape, labels: Shape) -> list[Shape]:
        inputs = self.blob_shapes[0][1]
        if len(features) < 2 or count(features, 1) != inputs or count(labels) != features[0]:
            self.fail(
                f"bottoms have shapes {features} and {labels}; expected {inputs} values and one label for each of the "
                "batch"
            )
        tops: list[Shape] = [(features[0], self.num_output), (1,)]
        return tops[: self.num_tops]

    def forward(self, features: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        rows = to_indices(self, labels, self.num_output, "label").flatten()
        with torch.no_grad():
            self.iteration.add_(1)
            weight = self.blob(0)
            weight.div_(weight.norm(dim=1, keepdim=True))
        lambda_ = (self.base * (1 + self.gamma * self.iteration) ** -self.power).clamp(min=self.lambda_min)
        top: Tensor = _MarginProduct.apply(features.flatten(1), self.blob(0), rows, (lambda_, self.kind))
        return top if self.num_tops == 1 else (top, lambda_.reshape(1))

    def index_limits(self, features: Shape, labels: Shape) -> dict[int, int]:
        return {1: self.num_output}

    @classmethod
    def example(cls, dice: Dice) -> Example:
        classes, n = dice.integer(2, 4), dice.integer(1, 5)
        kind = dice.pick("SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE")
        fields = f"num_output: {classes} type: {kind} base: 10 gamma: 0.1 power: 1 lambda_min: {dice.integer(0, 20)}"
        bottoms = [dice.normal(n, dice.integer(2, 5)), dice.indices(classes, n)]
        return Example(f"margin_inner_product_param {{ {fields} }}", bottoms, tops=dice.integer(1, 2))
