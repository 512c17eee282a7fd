"""LRN: local response normalisation (Krizhevsky et al., NIPS 2012, section 3.3)."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.ops.lrn import lrn
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("LRN")
class LRN(Layer):
    """Caffe divides alpha by the window's size and has k = 1.  Bottom and top (N, C, H, W).

    ``engine: CUDNN`` runs PyTorch's own operator, which has the same formula; ``CAFFE`` and
    ``DEFAULT`` run this package's kernel, the faster one.
    """

    param_fields = ("lrn_param",)
    graph_safe = True
    keeps_forward = True

    def setup(self, bottom: Shape) -> None:
        param = self.param.lrn_param
        if param.local_size % 2 == 0:
            self.fail(f"lrn_param.local_size is {param.local_size}; Caffe takes odd sizes only")
        self.local_size = int(param.local_size)
        self.norm_region = param.NormRegion.Name(param.norm_region)
        self.engine: str = param.Engine.Name(param.engine)
        self.alpha, self.beta, self.k = float(param.alpha), float(param.beta), float(param.k)
        if self.norm_region == "WITHIN_CHANNEL" and param.HasField("k") and param.k != 1:
            self.warn(f"lrn_param.k is {param.k:g}; Caffe uses 1 with WITHIN_CHANNEL, and so do we")

    def differs_from_opencv(self) -> str:
        ignored = self.k != 1 and self.norm_region == "ACROSS_CHANNELS"
        return f"k is {self.k:g}, which OpenCV 4 took for 1" if ignored else ""

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W)")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        if self.engine == "CUDNN" and self.norm_region == "ACROSS_CHANNELS":
            return functional.local_response_norm(bottom, self.local_size, self.alpha, self.beta, self.k)
        return lrn(bottom, self.local_size, self.alpha, self.beta, self.k, norm_region=self.norm_region)

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        scale = self.k + self.alpha / self.local_size * self._over_channels(kept.square())
        along = self._over_channels(top_diff * top / scale)
        return top_diff * scale**-self.beta - 2 * self.alpha * self.beta / self.local_size * bottom * along

    def has_gradient_now(self) -> bool:
        return self.norm_region == "ACROSS_CHANNELS"

    def _over_channels(self, x: Tensor) -> Tensor:
        """The sum over the window of channels around each."""
        half, channels = self.local_size // 2, x.shape[1]
        padded = functional.pad(x, (0, 0, 0, 0, half, half))
        return sum((padded[:, i : i + channels] for i in range(1, self.local_size)), start=padded[:, :channels])

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        if self.norm_region == "ACROSS_CHANNELS":
            window = {"size": self.local_size, "alpha": self.alpha, "beta": self.beta, "bias": self.k}
            return [graph.add("LRN", step.bottoms[0], **window)]
        pad = self.local_size // 2
        square = graph.add("Mul", step.bottoms[0], step.bottoms[0])
        kernel = [self.local_size] * 2
        mean = graph.add("AveragePool", square, kernel_shape=kernel, pads=[pad] * 4, count_include_pad=1)
        scale = graph.add("Pow", graph.shift(graph.scale(mean, self.alpha), 1.0), graph.constant(-self.beta))
        return [graph.add("Mul", step.bottoms[0], scale)]

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        return [f"size {param.lrn_param.local_size}"]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        region = dice.pick("ACROSS_CHANNELS", "WITHIN_CHANNEL")
        k = f"k: {dice.pick(1, 2)}" if region == "ACROSS_CHANNELS" else ""
        fields = f"local_size: {dice.pick(1, 3, 5)} alpha: {dice.number(0.01, 2)} beta: {dice.number(0.5, 1)} {k}"
        return Example(f"lrn_param {{ {fields} norm_region: {region} }}", [dice.normal(*dice.image())])
