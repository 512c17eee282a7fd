"""PyTorch's convolutions under the precision in force; the CUDA half's own code runs on the CPU here."""

import pytest
import torch
from torch import Tensor

from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.ops.torch_conv import Convolution, torch_conv
from caffe_compat.precision import use_precision
from tests.ops.switches import SWITCH, Switches

#: axes, groups, transposed
CASES = [(1, 1, False), (2, 2, False), (3, 1, False), (1, 2, True), (2, 1, True), (3, 2, True)]


def operands(axes: int, groups: int, transposed: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels, outputs = 4, 6
    shape = (channels, outputs // groups) if transposed else (outputs, channels // groups)
    tensors = [
        torch.randn(2, channels, *[5] * axes, generator=generator),
        torch.randn(*shape, *[3] * axes, generator=generator),
        torch.randn(outputs, generator=generator),
    ]
    input, weight, bias = (tensor.double().requires_grad_() for tensor in tensors)
    return input, weight, bias


def wrapped_conv(tensors: tuple[Tensor, ...], window: ConvWindow, transposed: bool = False) -> Tensor:
    """What ``torch_conv`` does on CUDA."""
    stride, padding, dilation, groups = window
    top: Tensor = Convolution.apply(*tensors, (stride, padding, dilation, transposed, (0,) * len(stride), groups))
    return top


@pytest.mark.parametrize(("axes", "groups", "transposed"), CASES)
def test_equals_pytorch(axes: int, groups: int, transposed: bool) -> None:
    tensors = operands(axes, groups, transposed)
    window = ConvWindow.per_axis(axes, stride=2, padding=1, dilation=2, groups=groups)
    plain = torch_conv(*tensors, window, transposed=transposed)
    wrapped = wrapped_conv(tensors, window, transposed)
    assert torch.equal(wrapped, plain)
    diff = torch.randn(plain.shape, dtype=plain.dtype)
    expected = torch.autograd.grad(plain, tensors, diff)
    assert all(map(torch.equal, torch.autograd.grad(wrapped, tensors, diff), expected))


def test_second_derivatives() -> None:
    tensors = operands(2, 2, False)
    window = ConvWindow.per_axis(2, padding=1, groups=2)
    assert torch.autograd.gradgradcheck(lambda *given: wrapped_conv(given, window), tensors)


@pytest.mark.parametrize(("name", "switch"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")])
def test_switches_in_both_passes(name: str, switch: str) -> None:
    tensors = operands(2, 1, False)
    with Switches() as switches, use_precision(name):
        top = wrapped_conv(tensors, ConvWindow.per_axis(2))
        top.sum().backward()
    assert switches.seen == [("forward", switch), ("backward", switch)]


def test_fp32_outside_of_any_block() -> None:
    before = SWITCH.fp32_precision
    tensors = operands(2, 1, False)
    with Switches() as switches:
        top = wrapped_conv(tensors, ConvWindow.per_axis(2))
        top.sum().backward()
    assert switches.seen == [("forward", "ieee"), ("backward", "ieee")]
    assert SWITCH.fp32_precision == before
