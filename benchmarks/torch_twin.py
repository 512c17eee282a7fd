"""The same net in plain ``torch.nn``: what a PyTorch user would write, to measure against."""

import torch
from torch import Tensor, nn

from caffe_compat import Net
from caffe_compat.layers.base import Layer


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
    kind = layer.type
    if kind == "Convolution":
        w = layer.window
        conv = nn.Conv2d(layer.channels, layer.num_output, w.kernel, w.stride, w.pad, w.dilation, layer.group)
        return [_filled(conv, layer)]
    if kind == "InnerProduct":
        return [nn.Flatten(), _filled(nn.Linear(layer.inputs, layer.num_output), layer)]
    if kind == "ReLU":
        return [nn.ReLU(inplace=True)]
    if kind == "Pooling" and layer.method == "MAX":
        return [nn.MaxPool2d(layer.kernel, layer.stride, layer.pad, ceil_mode=layer.ceil_mode)]
    if kind == "LRN" and layer.norm_region == "ACROSS_CHANNELS":
        return [nn.LocalResponseNorm(layer.local_size, layer.alpha, layer.beta, layer.k)]
    if kind == "Dropout":
        return [nn.Dropout(layer.ratio)]
    if kind == "SoftmaxWithLoss":
        return []
    raise ValueError(f'layer "{layer.name}": the plain twin has no {kind}; benchmark a chain like CaffeNet')


def _filled(module: nn.Module, layer: Layer) -> nn.Module:
    with torch.no_grad():
        for ours, theirs in zip(layer.blobs, module.parameters(), strict=True):
            theirs.copy_(ours)
    return module
