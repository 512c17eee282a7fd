"""Convolutions with their groups apart, and what stands between them, against PyTorch's operators."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops import ConvWindow, lrn, max_pool
from caffe_compat.ops.conv_parts import conv_parts, finish, first_conv, pool_chain, takes_first_conv

TOLERANCE = 2e-6  # float32, relative to the largest value
LRN = {"local_size": 5, "alpha": 0.02, "beta": 0.75, "k": 1.0}


def randn(*shape: int, device: torch.device, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def parts_of(x: Tensor, count: int) -> list[Tensor]:
    """Leaves, each dense in channels_last."""
    return [
        part.detach()
        .clone(memory_format=torch.channels_last)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for part in x.chunk(count, 1)
    ]


def assert_close(actual: Tensor | None, expected: Tensor | None) -> None:
    assert actual is not None
    assert expected is not None
    assert actual.shape == expected.shape
    assert (actual.double() - expected.double()).abs().max() <= TOLERANCE * expected.abs().max()


def joined(parts: list[Tensor]) -> Tensor:
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in parts)
    return torch.cat(parts, 1)


def gradients(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.grad for part in parts if part.grad is not None], 1)


@pytest.mark.parametrize(("groups", "kernel", "padding"), [(1, 3, 1), (2, 5, 2), (4, 3, 0), (2, 1, 0)])
def test_convolution(groups: int, kernel: int, padding: int, device: torch.device) -> None:
    x, weight = randn(3, 32, 9, 11, device=device), randn(16, 32 // groups, kernel, kernel, device=device, seed=2)
    window = ConvWindow.per_axis(2, padding=padding, groups=groups)
    whole, parts = x.clone().requires_grad_(), parts_of(x, groups)
    weights = [weight.clone().requires_grad_() for _ in range(2)]
    expected = functional.conv2d(whole.double(), weights[0].double(), padding=padding, groups=groups)
    actual = conv_parts(parts, weights[1], window)
    assert len(actual) == groups
    assert_close(joined(actual), expected)
    grad = randn(*expected.shape, device=device, seed=3)
    expected.backward(grad.double())
    torch.autograd.backward(actual, grad.chunk(groups, 1))
    assert_close(gradients(parts), whole.grad)
    assert_close(weights[1].grad, weights[0].grad)


def test_a_frozen_weight_gets_no_gradient_and_images_get_none(device: torch.device) -> None:
    x, weight = randn(2, 16, 5, 5, device=device), randn(8, 16, 3, 3, device=device)
    parts = parts_of(x, 1)
    (y,) = conv_parts(parts, weight, ConvWindow.per_axis(2))
    y.sum().backward()
    assert weight.grad is None
    assert parts[0].grad is not None
    weight.requires_grad_()
    (y,) = conv_parts([parts[0].detach()], weight, ConvWindow.per_axis(2))
    y.sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((35, 39), (11, 11), 4, (0, 0)),
        ((20, 23), (7, 7), 2, (3, 3)),
        ((9, 8), (3, 2), 2, (1, 0)),
        ((16, 16), (4, 4), 4, (0, 0)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_first_convolution(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    *,
    channels: int,
    device: torch.device,
) -> None:
    """Of whole numbers the same bits."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-5, 6, (2, channels, *size), generator=generator).float().to(device)
    weights = [
        torch.randint(-5, 6, (8, channels, *kernel), generator=torch.Generator().manual_seed(2)).float() for _ in "ab"
    ]
    weights = [weight.to(device).requires_grad_() for weight in weights]
    window = ConvWindow.per_axis(2, stride=stride, padding=padding)
    assert takes_first_conv(channels, window)
    expected = functional.conv2d(x, weights[0], stride=stride, padding=padding)
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        weights[1].grad = None
        actual = first_conv(images, weights[1], window, torch.float32)
        assert torch.equal(actual, expected)
        assert actual.is_contiguous(memory_format=torch.channels_last)
        grad = torch.randint(-5, 6, expected.shape, generator=torch.Generator().manual_seed(3)).float().to(device)
        actual.backward(grad)
        (wanted,) = torch.autograd.grad(expected, weights[0], grad, retain_graph=True)
        assert weights[1].grad is not None
        assert torch.equal(weights[1].grad, wanted)


@pytest.mark.parametrize(
    ("channels", "changes", "takes"),
    [
        (3, {}, True),
        (4, {}, True),
        (5, {}, False),
        (3, {"stride": (1, 1)}, False),
        (3, {"stride": (2, 4)}, False),
        (3, {"stride": (20, 20)}, False),  # 1,200 channels
        (3, {"dilation": (2, 2)}, False),
        (3, {"groups": 3}, False),
    ],
)
def test_which_convolutions_are_taken_as_first(channels: int, changes: dict[str, object], takes: bool) -> None:
    window = ConvWindow((4, 4), (0, 0), (1, 1))._replace(**changes)  # type: ignore[arg-type]
    assert takes_first_conv(channels, window) is takes


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2)])
def test_finish(before: int, after: int, biased: bool, relu: bool, device: torch.device) -> None:
    x, bias = randn(3, 32, 5, 7, device=device), randn(32, device=device, seed=2) if biased else None
    whole, parts = x.clone().requires_grad_(), parts_of(x, before)
    biases = [None if bias is None else bias.clone().requires_grad_() for _ in range(2)]
    expected = whole if biases[0] is None else whole + biases[0].view(-1, 1, 1)
    expected = expected.relu() if relu else expected * 1
    actual = finish(parts, biases[1], relu=relu, groups=after)
    assert len(actual) == after
    assert torch.equal(joined(actual), expected)
    grad = randn(*x.shape, device=device, seed=3)
    expected.backward(grad)
    torch.autograd.backward(actual, grad.chunk(after, 1))
    assert whole.grad is not None
    assert torch.equal(gradients(parts), whole.grad)
    if biases[0] is not None and biases[1] is not None:
        assert_close(biases[1].grad, biases[0].grad)


@pytest.mark.parametrize("norm", [None, LRN])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 1)])
def test_pool_chain(before: int, after: int, relu: bool, norm: dict[str, Any] | None, device: torch.device) -> None:
    x, bias = randn(2, 32, 9, 8, device=device), randn(32, device=device, seed=2)
    window = ((3, 3), (2, 2), (0, 0), (4, 4))
    whole, parts = x.clone().requires_grad_(), parts_of(x, before)
    biases = [bias.clone().requires_grad_() for _ in range(2)]
    expected = max_pool(whole + biases[0].view(-1, 1, 1), *window, relu=relu)
    if norm is not None:
        expected = lrn(expected, **norm)
    actual = pool_chain(parts, biases[1], window, relu=relu, lrn=norm, groups=after)
    assert len(actual) == after
    assert_close(joined(actual), expected)
    grad = randn(*expected.shape, device=device, seed=3)
    expected.backward(grad)
    torch.autograd.backward(actual, grad.chunk(after, 1))
    assert_close(gradients(parts), whole.grad)
    assert_close(biases[1].grad, biases[0].grad)
