"""LRN: local response normalisation (Krizhevsky et al., NIPS 2012, section 3.3)."""

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.ops.lrn import lrn


@register("LRN")
class LRN(Layer):
    """Caffe divides alpha by the window's size and has k = 1.  Bottom and top (N, C, H, W).

    ``engine: CUDNN`` runs PyTorch's own operator, which has the same formula; ``CAFFE`` and
    ``DEFAULT`` run this package's kernel, the faster one.
    """

    param_fields = ("lrn_param",)

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

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W)")
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        if self.engine == "CUDNN" and self.norm_region == "ACROSS_CHANNELS":
            return functional.local_response_norm(bottom, self.local_size, self.alpha, self.beta, self.k)
        return lrn(bottom, self.local_size, self.alpha, self.beta, self.k, self.norm_region)
