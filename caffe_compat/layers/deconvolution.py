"""Deconvolution: the transpose of Convolution, over any number of spatial axes."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Shape, count
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.geometry import KernelWindow, deconv_sizes
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.torch_conv import torch_conv
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxStep


@register("Deconvolution")
class Deconvolution(Convolution):
    """Bottoms (N, C, spatial...) -> tops (N, num_output, spatial'...), one top per bottom.

    Weight (C, num_output / group, kernel...), bias (num_output,).  PyTorch's kernels run it,
    whatever the ``engine``.
    """

    graph_safe = True
    onnx_operator = "ConvTranspose"

    def _add_conv_blobs(self, param: caffe_pb2.ConvolutionParameter) -> None:
        shape = (self.channels, self.num_output // self.group, *self.window.kernel)
        self.add_blob("weight", shape, lambda t: fill(t, param.weight_filler))
        if param.bias_term:
            self.add_blob("bias", (self.num_output,), lambda t: fill(t, param.bias_filler))

    def _output_sizes(self, sizes: Shape) -> Shape:
        tops = deconv_sizes(sizes, self.window)
        if any(size < 1 for size in tops):
            self.fail(f"kernel {self.window.kernel} with pad {self.window.pad} leaves nothing of a bottom of {sizes}")
        return tops

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.spatial_axes > 3:
            return _deconvolve_nd(x, weight, bias, self.window, self.group)
        if self.spatial_axes == 0:
            window = ConvWindow.per_axis(1, groups=self.group)
            return torch_conv(x.unsqueeze(-1), weight.unsqueeze(-1), bias, window, transposed=True)[..., 0]
        return torch_conv(x, weight, bias, self.window.with_groups(self.group), transposed=True)

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        # Each bottom value goes through all weights of its channel.
        return sum(2 * count(bottom) * count(self.blob_shapes[0], 1) for bottom in bottom_shapes)

    def _end_pads(self, step: "OnnxStep") -> Sequence[int]:
        return self.window.pad


def _deconvolve_nd(x: Tensor, weight: Tensor, bias: Tensor | None, window: KernelWindow, group: int) -> Tensor:
    """More than three spatial axes, one kernel place at a time; PyTorch has no such convolution."""
    sizes = x.shape[2:]
    # (N, C, spatial...) -> (N, group, C/group, spatial...); weight (group, C/group, outputs/group, kernel...)
    x = x.unflatten(1, (group, -1))
    w = weight.unflatten(0, (group, -1))
    full = deconv_sizes(sizes, window._replace(pad=(0,) * len(sizes)))
    top = x.new_zeros(x.shape[0], group, w.shape[2], *full)
    for place in product(*(range(k) for k in window.kernel)):
        starts = [p * d for p, d in zip(place, window.dilation, strict=True)]
        cells = tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, sizes, window.stride, strict=True))
        w_place = w[:, :, :, *place].transpose(1, 2).flatten(0, 1)
        part = functional.conv1d(x.flatten(1, 2).flatten(2), w_place.unsqueeze(-1), groups=group)
        top[:, :, :, *cells] += part.reshape(x.shape[0], group, -1, *sizes)
    inner = tuple(slice(p, n - p) for p, n in zip(window.pad, full, strict=True))
    top = top.flatten(1, 2)[:, :, *inner]
    return top if bias is None else top + bias.view(-1, *[1] * len(sizes))
