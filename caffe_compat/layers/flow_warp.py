"""FlowWarp: an image fetched from where a flow field points (FlowNet2)."""

import math

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example


@register("FlowWarp")
class FlowWarp(Layer):
    """Bottoms image (N, C, H, W) and flow (N, 2, H, W), in pixels to the right and down -> top (N, C, H, W).

    Place (x, y) of the top is the image at (x, y) + flow, bilinear; ``fill_value`` (0, or NaN for NOT_A_NUMBER) where
    that lies outside 0 <= x < W, 0 <= y < H.  Both bottoms receive a gradient, the flow none outside.
    """

    param_fields = ("flow_warp_param",)
    onnx_obstacle = "ONNX has no operator that is 0 or NaN wherever the flow points outside"
    bottom_count = (2, 2)
    graph_safe = True

    def setup(self, image: Shape, flow: Shape) -> None:
        param = self.param.flow_warp_param
        self.fill = math.nan if param.fill_value == param.NOT_A_NUMBER else 0.0

    def infer_shapes(self, image: Shape, flow: Shape) -> list[Shape]:
        if len(image) != 4 or flow != (image[0], 2, *image[2:]):
            self.fail(f"bottoms have shapes {image} and {flow}; expected (N, C, H, W) and (N, 2, H, W)")
        return [image]

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        height, width = image.shape[2:]
        x = flow[:, 0] + torch.arange(width, dtype=flow.dtype, device=flow.device)
        y = flow[:, 1] + torch.arange(height, dtype=flow.dtype, device=flow.device).unsqueeze(1)
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        # Places outside (or NaN) read pixel 0; what they read is thrown away.
        x, y = (torch.where(inside, place, 0) for place in (x, y))
        left, above = (place.detach().floor() for place in (x, y))
        right_share, below_share = (x - left).unsqueeze(1), (y - above).unsqueeze(1)
        columns = [left.long(), (left.long() + 1).clamp(max=width - 1)]
        rows = [above.long(), (above.long() + 1).clamp(max=height - 1)]
        pixels = image.flatten(2)

        def fetch(row: int, column: int) -> Tensor:
            places = (rows[row] * width + columns[column]).flatten(1).unsqueeze(1)
            return pixels.gather(2, places.expand(-1, image.shape[1], -1)).reshape(image.shape)

        upper = (1 - right_share) * fetch(0, 0) + right_share * fetch(0, 1)
        lower = (1 - right_share) * fetch(1, 0) + right_share * fetch(1, 1)
        warped = (1 - below_share) * upper + below_share * lower
        return torch.where(inside.unsqueeze(1), warped, self.fill)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h, w = dice.image()
        # Away from whole numbers, where float32 and float64 could fall on different sides.
        flow = dice.rng.integers(-4, 5, (n, 2, h, w)) + dice.rng.uniform(0.1, 0.9, (n, 2, h, w))
        return Example("", [dice.normal(n, c, h, w), flow.astype("float32")])
