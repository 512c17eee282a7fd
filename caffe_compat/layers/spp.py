"""SPP: pyramid of 1x1, 2x2, 4x4, ... bins over the whole bottom (He et al., ECCV 2014)."""

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.proto import caffe_pb2


@register("SPP")
class SPP(Layer):
    """Bottom (N, C, H, W) -> top (N, C * (1 + 4 + 16 + ...)), one term per level; with
    ``pyramid_height: 1`` top (N, C, 1, 1)."""

    param_fields = ("spp_param",)
    graph_safe = True
    keeps_forward = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        self.height = int(self.param.spp_param.pyramid_height)
        if self.height < 1:
            self.fail("spp_param.pyramid_height is missing or 0; expected at least 1")
        self._levels: dict[tuple[int, int], list[Pooling]] = {}

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4 or min(bottom[2:]) < 1:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W) with H and W at least 1")
        tops = [pooling.infer_shapes(bottom)[0] for pooling in self._poolings(bottom[2], bottom[3])]
        return tops if self.height == 1 else [(bottom[0], sum(count(top, 1) for top in tops))]

    def _poolings(self, height: int, width: int) -> list[Pooling]:
        # Made once per size of bottom: their windows depend on it.
        if (height, width) not in self._levels:
            self._levels[height, width] = [self._make_level(2**i, height, width) for i in range(self.height)]
        return self._levels[height, width]

    def _make_level(self, bins: int, height: int, width: int) -> Pooling:
        """Pooling whose ``bins`` x ``bins`` windows cover the bottom and its padding."""
        kernel_h, kernel_w = -(-height // bins), -(-width // bins)
        pad_h, pad_w = (kernel_h * bins - height + 1) // 2, (kernel_w * bins - width + 1) // 2
        if pad_h >= kernel_h or pad_w >= kernel_w:
            self.fail(f"a bottom of {height} x {width} is too small for {bins} x {bins} bins; lower pyramid_height")
        param = caffe_pb2.LayerParameter(name=self.name, type="Pooling", top=["pooled"])
        pooling = param.pooling_param
        method = caffe_pb2.SPPParameter.PoolMethod.Name(self.param.spp_param.pool)
        pooling.MergeFrom(caffe_pb2.PoolingParameter(pool=method))
        pooling.kernel_h, pooling.kernel_w = kernel_h, kernel_w
        pooling.stride_h, pooling.stride_w = kernel_h, kernel_w
        pooling.pad_h, pooling.pad_w = pad_h, pad_w
        level = Pooling(param, self.context)
        level.setup((1, 1, height, width))
        return level

    def forward(self, bottom: Tensor) -> Tensor:
        tops = [pooling(bottom) for pooling in self._poolings(bottom.shape[2], bottom.shape[3])]
        return tops[0] if self.height == 1 else torch.cat([top.flatten(1) for top in tops], 1)

    @classmethod
    def example(cls, dice: Dice) -> Example:
        fields = f"pyramid_height: {dice.integer(1, 3)} pool: {dice.pick('MAX', 'AVE')}"
        # Three levels, 4 x 4 bins, need at least 7 x 7.
        shape = dice.integer(1, 3), dice.integer(1, 4), dice.integer(7, 9), dice.integer(7, 9)
        return Example(f"spp_param {{ {fields} }}", [dice.normal(*shape)])
