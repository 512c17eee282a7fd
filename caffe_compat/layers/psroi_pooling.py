"""PSROIPooling: the average in each bin of a region, from channels of its own (R-FCN, Dai et al. 2016)."""

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.rois import Bins, check_rois, images_of, random_rois, round_half_away

# The least width and height of a region on the features.
LEAST_SIZE = 0.1


@register("PSROIPooling")
class PSROIPooling(Layer):
    """Bottoms features (N, D g^2, H, W) and regions (R, 5): image, x1, y1, x2, y2 -> top (R, D, g, g).

    D: ``output_dim``; g: ``group_size``.  Bin (i, j) of top channel d is the average of channel (d g + i) g + j.  A
    region goes from round(x1) ``spatial_scale`` to (round(x2) + 1) ``spatial_scale``, halves rounded away from zero;
    bin i from floor(i size / g + start) to before ceil((i + 1) size / g + start), in the bottom's dtype.  What is
    outside the features does not count; a bin without pixels is 0.  There is no gradient to the regions.
    """

    param_fields = ("psroi_pooling_param",)
    bottom_count = (2, 2)
    graph_obstacle = "has bins whose sizes depend on the data"

    def setup(self, features: Shape, rois: Shape) -> None:
        param = self.param.psroi_pooling_param
        self.spatial_scale = float(param.spatial_scale)
        self.output_dim, self.group_size = int(param.output_dim), int(param.group_size)
        if self.output_dim < 1 or self.group_size < 1 or self.spatial_scale <= 0:
            self.fail(
                f"psroi_pooling_param has output_dim {self.output_dim}, group_size {self.group_size} and spatial_scale "
                f"{self.spatial_scale}; expected numbers above 0"
            )

    def infer_shapes(self, features: Shape, rois: Shape) -> list[Shape]:
        check_rois(self, features, rois)
        channels = self.output_dim * self.group_size**2
        if features[1] != channels:
            self.fail(f"bottom 0 has shape {features}; expected {channels} channels, output_dim * group_size^2")
        return [(rois[0], self.output_dim, self.group_size, self.group_size)]

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        rois, g = rois.detach().reshape(-1, 5), self.group_size
        images = images_of(self, rois, features.shape[0])
        height, width = features.shape[2:]
        start = round_half_away(rois[:, [2, 1]]) * self.spatial_scale
        end = (round_half_away(rois[:, [4, 3]]) + 1) * self.spatial_scale
        size = (end - start).clamp(min=LEAST_SIZE)
        owner, pixels, starts = Bins(
            self._edges(start[:, :1], size[:, :1]), self._edges(start[:, 1:], size[:, 1:]), height, width
        ).pixels()
        # Rows of D numbers, one for each image, bin and pixel: the average of a bag of them is one bin's top.
        table = features.view(-1, self.output_dim, g * g, height * width).permute(0, 2, 3, 1)
        pixels = pixels + (images[owner // (g * g)] * (g * g) + owner % (g * g)) * (height * width)
        top = functional.embedding_bag(pixels, table.reshape(-1, self.output_dim), starts, mode="mean")
        return top.view(-1, g, g, self.output_dim).permute(0, 3, 1, 2)

    def _edges(self, start: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Where bins along one axis begin and end, (R, g)."""
        steps = torch.arange(self.group_size + 1, dtype=size.dtype, device=size.device) * (size / self.group_size)
        edges = steps + start
        return edges[:, :-1].floor(), edges[:, 1:].ceil()

    @classmethod
    def example(cls, dice: Dice) -> Example:
        g, dim = dice.pick(1, 2, 4), dice.integer(1, 3)
        shape = dice.image(dim * g * g)
        fields = f"spatial_scale: 0.5 output_dim: {dim} group_size: {g}"
        return Example(f"psroi_pooling_param {{ {fields} }}", [dice.normal(*shape), random_rois(dice, shape)])
