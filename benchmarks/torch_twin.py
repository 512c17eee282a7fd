"""The same net in plain ``torch.nn``: what a PyTorch user would write, to measure against."""

import torch
from torch import Tensor, nn

from caffe_compat import Net
from caffe_compat.layers.base import Layer
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.dropout import Dropout
from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.layers.lrn import LRN
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.relu import ReLU
from caffe_compat.layers.softmax_with_loss import SoftmaxWithLoss


class TorchTwin(nn.Module):
    """A chain of torch's own modules with the shapes of a caffe_compat Net, ending in cross entropy.

    Only for nets that are one chain of the layers of CaffeNet; ValueError otherwise.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        layers = [step.layer for step in net.steps if not step.layer.is_source]
        self.body = nn.Sequential(*(m for layer in layers for m in torch_modules(layer)))

    def forward(self, data: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.body(data), label)


def torch_modules(layer: Layer) -> list[nn.Module]:
    """Torch's modules for one layer, with the layer's weights; none for the loss."""
    if type(layer) is Convolution and layer.spatial_axes == 2:  # not Deconvolution, its subclass
        kernel, stride, pad, dilation = (_pair(sizes) for sizes in layer.window)
        conv = nn.Conv2d(layer.channels, layer.num_output, kernel, stride, pad, dilation, layer.group)
        return [_filled(conv, layer)]
    if isinstance(layer, InnerProduct):
        return [nn.Flatten(), _filled(nn.Linear(layer.inputs, layer.num_output), layer)]
    if isinstance(layer, ReLU):
        return [nn.ReLU(inplace=True)]
    if isinstance(layer, Pooling) and layer.method == "MAX":
        return [nn.MaxPool2d(layer.kernel, layer.stride, layer.pad, ceil_mode=layer.ceil_mode)]
    if isinstance(layer, LRN) and layer.norm_region == "ACROSS_CHANNELS":
        return [nn.LocalResponseNorm(layer.local_size, layer.alpha, layer.beta, layer.k)]
    if isinstance(layer, Dropout):
        return [nn.Dropout(layer.ratio)]
    if isinstance(layer, SoftmaxWithLoss):
        return []
    raise ValueError(f'layer "{layer.name}": the plain twin has no {layer.type}; benchmark a chain like CaffeNet')


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    height, width = sizes
    return height, width


def _filled(module: nn.Module, layer: Layer) -> nn.Module:
    with torch.no_grad():
        for ours, theirs in zip(layer.blobs, module.parameters(), strict=True):
            theirs.copy_(ours)
    return module
