"""The matrix product of Caffe's InnerProduct, made for training on a CPU: few images, weights that no cache holds.

M K N in shape comments: batch, inputs, outputs.
"""

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension

HAS_KERNELS = extension.load() is not None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """y = input weight^T + bias, then max(y, 0) with ``relu``: (M, K), (N, K), (N,) -> (M, N).

    float32 on the CPU takes our kernels for up to 256 images, with AVX2 or AVX-512; sums do not depend on the number
    of threads, and it is not twice differentiable.  Everything else is torch.nn.functional.linear: other dtypes and
    devices, autocast, a package without the extension.  ValueError for float32 shapes that do not fit.
    """
    ours = HAS_KERNELS and input.device.type == "cpu" and input.dtype == weight.dtype == torch.float32
    if ours and not torch.is_autocast_enabled("cpu"):
        output: Tensor = torch.ops.caffe_compat.linear(input, weight, bias, relu)
        return output
    return reference(input, weight, bias, relu)


@extension.plain_twin("linear")
def reference(input: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """``linear`` in plain PyTorch."""
    output = functional.linear(input, weight, bias)
    return output.relu() if relu else output


@extension.fake_kernel("linear")
def _linear_fake(input: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return input.new_empty((input.shape[0], weight.shape[0]))


@extension.fake_kernel("linear_input_grad")
def _linear_input_grad_fake(grad: Tensor, weight: Tensor) -> Tensor:
    return grad.new_empty((grad.shape[0], weight.shape[1]))


@extension.fake_kernel("linear_weight_grad")
def _linear_weight_grad_fake(grad: Tensor, input: Tensor) -> Tensor:
    return grad.new_empty((grad.shape[1], input.shape[1]))
