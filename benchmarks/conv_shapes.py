"""The grouped convolutions that bench_conv.py runs, and what runs them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from caffe_compat.layers.convolution import Convolution
from caffe_compat.ops import ConvWindow
from caffe_compat.ops.conv_paths import PATHS
from caffe_compat.ops.conv_paths import Path as ConvPath


class Shape(NamedTuple):
    """One convolution without its batch: input (C, H, W), weight, stride, padding, groups."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int
    padding: int
    groups: int

    def window(self) -> ConvWindow:
        return ConvWindow.per_axis(2, stride=self.stride, padding=self.padding, groups=self.groups)

    def gigaflop(self, batch: int) -> float:
        """Of the output, or of either gradient."""
        height, width = self.window().output_size((batch, *self.input), self.weight)
        return 2e-9 * batch * height * width * torch.Size(self.weight).numel()


CAFFENET = {
    "conv2": Shape((96, 27, 27), (256, 48, 5, 5), 1, 2, 2),
    "conv4": Shape((384, 13, 13), (384, 192, 3, 3), 1, 1, 2),
    "conv5": Shape((384, 13, 13), (256, 192, 3, 3), 1, 1, 2),
}

#: names of ``use_precision``, and the dtype of the operands
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
OPERATIONS = ("output", "input_grad", "weight_grad")


def read_shapes(model: Path) -> dict[str, Shape]:
    """The convolution layers with groups of a prototxt with Input layers."""
    from caffe_compat import Net

    net = Net(model, phase="TEST")
    found: dict[str, Shape] = {}
    for name, layer in net.layers.items():
        if type(layer) is Convolution and layer.group > 1:  # not Deconvolution, its subclass
            _, stride, pad, _ = layer.window
            shape = net.blob_shapes[layer.param.bottom[0]][1:]
            found[name] = Shape(tuple(shape), tuple(layer.blob_shapes[0]), stride[0], pad[0], layer.group)
    return found


class Operands:
    """Input, weight and the output's gradient of one convolution, in one layout."""

    def __init__(
        self, shape: Shape, batch: int, device: torch.device, dtype: torch.dtype, channels_last: bool = False
    ) -> None:
        generator = torch.Generator(device).manual_seed(1)
        layout = torch.channels_last if channels_last else torch.contiguous_format

        def normal(*size: int) -> Tensor:
            values = torch.randn(size, generator=generator, device=device).to(dtype)
            return values.contiguous(memory_format=layout)

        self.window = shape.window()
        self.x = normal(batch, *shape.input)
        self.weight = normal(*shape.weight) * 0.05
        size = PATHS["cudnn"].output(self.x[:1], self.weight, None, self.window, False).shape[1:]
        self.dy = normal(batch, *size)

    def calls(self, path: ConvPath) -> dict[str, Callable[[], Tensor]]:
        """Output and both gradients as calls without arguments."""
        x, weight, dy, window = self.x, self.weight, self.dy, self.window
        height, width = x.shape[2:]
        rows, columns = weight.shape[2:]
        return {
            "output": lambda: path.output(x, weight, None, window, False),
            "input_grad": lambda: path.input_grad(dy, weight, (height, width), window),
            "weight_grad": lambda: path.weight_grad(dy, x, (rows, columns), window),
        }
