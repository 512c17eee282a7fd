"""Correlation: how alike the patches of one blob are to displaced ones of another (FlowNet, 2015)."""

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example


@register("Correlation")
class Correlation(Layer):
    """Bottoms a and b (N, C, H, W) -> top (N, D^2, H', W'), D = 2 floor(max_displacement / stride_2) + 1.

    Both are padded with ``pad`` zeros.  Channel p D + o is the mean over C and a kernel_size x kernel_size patch of
    a * b (``SUBTRACT``: |a - b|), with the patch of b lying (p, o) - floor(D / 2) times ``stride_2`` from that of a;
    the patches of a lie ``stride_1`` apart, ``max_displacement`` from the border.  The gradient of SUBTRACT is the true
    one, where FlowNet's looks for the sign at another place.
    """

    param_fields = ("correlation_param",)
    onnx_obstacle = "ONNX has no operator that compares windows of two maps"
    bottom_count = (2, 2)
    graph_safe = True

    def setup(self, a: Shape, b: Shape) -> None:
        param = self.param.correlation_param
        for field in ("kernel_size", "max_displacement"):
            if not param.HasField(field):
                self.fail(f"correlation_param.{field} is missing")
        self.kernel, self.reach = int(param.kernel_size), int(param.max_displacement)
        self.pad, self.stride, self.step = int(param.pad), int(param.stride_1), int(param.stride_2)
        self.subtract = param.correlation_type == param.SUBTRACT
        if self.kernel % 2 == 0 or min(self.stride, self.step) < 1:
            self.fail(
                f"correlation_param has kernel_size {self.kernel}, stride_1 {self.stride}, stride_2 {self.step}; "
                "expected an odd kernel_size and strides of at least 1"
            )
        if param.do_abs:
            self.warn("correlation_param.do_abs has no effect, as in FlowNet; remove it")
        if param.single_direction:
            self.fail("correlation_param.single_direction is for Correlation1D; remove it")

    def infer_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        if len(a) != 4 or a != b:
            self.fail(f"bottoms have shapes {a} and {b}; expected the same (N, C, H, W)")
        border = self.reach + self.kernel // 2
        sizes = [-(-(size + 2 * self.pad - 2 * border) // self.stride) for size in a[2:]]
        if min(sizes) < 1:
            self.fail(f"bottom {a} with pad {self.pad} has no room for max_displacement {self.reach} and the kernel")
        return [(a[0], len(self._displacements()) ** 2, *sizes)]

    def _displacements(self) -> list[int]:
        radius = self.reach // self.step
        return [place * self.step for place in range(-radius, radius + 1)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        # The middle of a: where a patch of it may begin, and what it spans beyond.
        padded_a, padded_b = (functional.pad(x, [self.pad] * 4) for x in (a, b))
        height, width = (size - 2 * self.reach for size in padded_a.shape[2:])
        middle = padded_a[:, :, self.reach : self.reach + height, self.reach : self.reach + width]
        match = self._differences if self.subtract else self._products
        rows = [
            match(middle, padded_b[:, :, self.reach + offset : self.reach + offset + height])
            for offset in self._displacements()
        ]
        # (N, D^2, height, width) -> the mean over each patch
        return functional.avg_pool2d(torch.cat(rows, 1), self.kernel, self.stride)

    def _products(self, a: Tensor, b: Tensor) -> Tensor:
        """a (N, C, h, w), b (N, C, h, w + 2 reach) -> (N, D, h, w): mean over C of a times b, displaced sideways."""
        channels, width = a.shape[1], a.shape[3]
        # All pairs of columns of a row at once, of which a band is wanted: (N, h, w, w + 2 reach).
        pairs = a.permute(0, 2, 3, 1) @ b.permute(0, 2, 1, 3)
        places = torch.arange(width, device=a.device).unsqueeze(1) + self.reach
        columns = places + torch.tensor(self._displacements(), device=a.device)
        band = pairs.gather(3, columns.expand(*pairs.shape[:2], *columns.shape))
        return band.permute(0, 3, 1, 2) / channels

    def _differences(self, a: Tensor, b: Tensor) -> Tensor:
        """Like ``_products``, for |a - b|."""
        width = a.shape[3]
        starts = [self.reach + offset for offset in self._displacements()]
        return torch.stack([(a - b[..., start : start + width]).abs().mean(1) for start in starts], 1)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = (dice.integer(1, 2), dice.integer(1, 4), dice.integer(6, 9), dice.integer(6, 9))
        reach, step = dice.integer(0, 3), dice.integer(1, 2)
        fields = f"kernel_size: {dice.pick(1, 3)} max_displacement: {reach} stride_2: {step} pad: {dice.integer(2, 3)}"
        fields += f" stride_1: {dice.integer(1, 2)} correlation_type: {dice.pick('MULTIPLY', 'SUBTRACT')}"
        return Example(f"correlation_param {{ {fields} }}", [dice.normal(*shape), dice.normal(*shape)])
