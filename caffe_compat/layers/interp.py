"""Interp: resize by bilinear interpolation between the corners (DeepLab, PSPNet)."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import MAX_COUNT, Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("Interp")
class Interp(Layer):
    """Bottom (N, C, H, W), cropped by -``pad_beg`` and -``pad_end`` -> top (N, C, H', W').

    The first and last values of an axis stay the first and last.  Sizes: ``shrink_factor`` alone: (H - 1) / s + 1;
    ``zoom_factor`` alone: (H - 1) z + 1; ``height`` and ``width``; or else shrunk, then zoomed.  A second bottom gives
    its sizes and nothing else (``use_blob_size`` of feature pyramids; Synet, OpenVINO and OpenCV read it so).
    """

    param_fields = ("interp_param",)
    bottom_count = (1, 2)
    no_gradient_bottoms = (1,)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape, *like: Shape) -> None:
        param = self.param.interp_param
        self.crops = (-int(param.pad_beg), -int(param.pad_end))
        if min(self.crops) < 0:
            self.fail(
                f"interp_param has pad_beg {param.pad_beg} and pad_end {param.pad_end}; expected 0 or less, which crops"
            )
        has_shrink, has_zoom = param.HasField("shrink_factor"), param.HasField("zoom_factor")
        has_sizes = param.HasField("height") and param.HasField("width")
        given = [name for name in ("height", "width", "zoom_factor", "shrink_factor") if param.HasField(name)]
        if like and (given or (param.HasField("use_blob_size") and not param.use_blob_size)):
            self.fail(
                f"has 2 bottoms, and interp_param gives {', '.join(given) or 'use_blob_size: false'}; expected the "
                "second bottom's size alone: remove that bottom, or the fields"
            )
        if param.use_blob_size and not like:
            self.fail("interp_param.use_blob_size is true; expected a second bottom, for its sizes")
        if not (has_shrink or has_zoom or has_sizes or like):
            self.fail("interp_param needs height and width, or zoom_factor, or shrink_factor")
        if has_shrink == has_zoom and has_sizes:
            self.sizes: Shape | None = (int(param.height), int(param.width))
        else:
            self.sizes = None
        self.shrink, self.zoom = int(param.shrink_factor), int(param.zoom_factor)
        if min(self.shrink, self.zoom, *(self.sizes or ())) < 1:
            self.fail("interp_param has a size or factor below 1; expected at least 1")

    def differs_from_opencv(self) -> str:
        said = []
        if any(self.crops):
            said.append("pad_beg and pad_end crop")
        if self.param.interp_param.HasField("shrink_factor"):
            said.append("shrink_factor counts")
        return f"{' and '.join(said)}, unlike in OpenCV 4" if said else ""

    def infer_shapes(self, bottom: Shape, *like: Shape) -> list[Shape]:
        if like and len(like[0]) != 4:
            self.fail(f"bottom 1 has shape {like[0]}; expected (N, C, H, W), for its sizes")
        if len(bottom) != 4 or min(bottom[2:]) <= sum(self.crops):
            self.fail(f"bottom has shape {bottom}; expected (N, C, H, W), more than the {sum(self.crops)} cropped away")
        return [(*bottom[:2], *(like[0][2:] if like else self._output_sizes(bottom[2], bottom[3])))]

    def _output_sizes(self, *sizes: int) -> Shape:
        return self.sizes or tuple((size - sum(self.crops) - 1) // self.shrink * self.zoom + 1 for size in sizes)

    def forward(self, bottom: Tensor, *like: Tensor) -> Tensor:
        height, width = bottom.shape[2:]
        sizes = tuple(like[0].shape[2:]) if like else self._output_sizes(height, width)
        if any(self.crops):
            begin, end = self.crops
            bottom = bottom[:, :, begin : height - end, begin : width - end]
        return functional.interpolate(bottom, sizes, mode="bilinear", align_corners=True)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        value = step.bottoms[0]
        if any(self.crops):
            begin, end = self.crops
            ends = graph.sizes([-end if end else MAX_COUNT] * 2)
            value = graph.add("Slice", value, graph.sizes([begin, begin]), ends, graph.sizes([2, 3]))
        change = ("Add", -sum(self.crops) - 1), ("Div", self.shrink), ("Mul", self.zoom), ("Add", 1)
        batch, channels, *spatial = step.dims()
        if len(step.bottoms) > 1:
            sizes = list(step.dims(1)[2:])
        else:
            sizes = list(self.sizes or [graph.work_out(size, *change) for size in spatial])
        attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        return [graph.resize(value, [batch, channels, *sizes], **attributes)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        sizes = f"height: {dice.integer(1, 12)} width: {dice.integer(1, 12)}"
        factor = f"{dice.pick('shrink_factor', 'zoom_factor')}: {dice.integer(1, 3)}"
        crops = f"pad_beg: -{dice.integer(0, 2)} pad_end: -{dice.integer(0, 2)}"
        if dice.integer(0, 3) == 0:
            bottoms = [dice.normal(*dice.image()), dice.normal(*dice.image())]
            return Example(f"interp_param {{ use_blob_size: true {crops} }}", bottoms)
        return Example(f"interp_param {{ {dice.pick(sizes, factor)} {crops} }}", [dice.normal(*dice.image())])
