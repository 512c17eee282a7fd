"""Our own convolution kernels on a GPU, whatever the choice would be; test_host_conv.py needs none."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from caffe_compat import extension
from caffe_compat.ops import conv
from caffe_compat.ops.conv import reference
from caffe_compat.ops.conv_choice import use_path
from caffe_compat.precision import use_precision
from tests.ops.conv_cases import CONV_CASES, NHWC_CASES, NHWC_FLOAT_CASES, ConvCase
from tests.ops.test_conv import (
    FLOAT32_TOLERANCE,
    HALF_TOLERANCE,
    Arguments,
    close,
    convert,
    forward_backward,
    make_arguments,
    run_conv,
)

TF32_TOLERANCE = 2e-3  # numbers rounded to 10 bits
TOLERANCES = {torch.float32: FLOAT32_TOLERANCE, **HALF_TOLERANCE}
CASES = [*CONV_CASES, *NHWC_CASES, *NHWC_FLOAT_CASES]
GROUPED = ConvCase((6, 32, 15, 14), 48, (3, 3), padding=(1, 1), groups=2)


@pytest.fixture(params=["ours_nchw", "ours_nhwc"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    if not torch.cuda.is_available() or not extension.has_cuda():
        pytest.skip("no GPU, or the extension is built without CUDA")
    with use_path(request.param):
        yield request.param


def arguments_of(case: ConvCase, dtype: torch.dtype, channels_last: bool = True) -> Arguments:
    """On the GPU; input and weight in the layout that the channels_last kernels like best."""
    x, weight, bias = convert(make_arguments(case, torch.device("cuda")), dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout), bias


def expected_of(arguments: Arguments, case: ConvCase) -> list[Tensor]:
    return forward_backward(reference, convert(arguments, torch.float64), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_twin(case: ConvCase, path: str) -> None:
    for dtype, tolerance in TOLERANCES.items():
        for channels_last in (False, True):
            arguments = arguments_of(case, dtype, channels_last)
            expected = expected_of(arguments, case)
            torch.full((1 << 16,), torch.nan, device="cuda")  # poison memory that the outputs may get
            for a, e in zip(forward_backward(run_conv, arguments, case), expected, strict=True):
                assert a.dtype == dtype
                assert close(a, e, tolerance)


def test_tf32_in_its_block_alone(path: str) -> None:
    arguments = arguments_of(GROUPED, torch.float32)
    expected = expected_of(arguments, GROUPED)
    with use_precision("tf32"):
        actual = forward_backward(run_conv, arguments, GROUPED)
    with torch.backends.cudnn.flags(allow_tf32=True):
        accurate = forward_backward(run_conv, arguments, GROUPED)
    assert all(close(a, e, FLOAT32_TOLERANCE) for a, e in zip(accurate[:3], expected[:3], strict=True))
    for a, e in zip(actual[:3], expected[:3], strict=True):
        assert close(a, e, TF32_TOLERANCE)
        assert not close(a, e, FLOAT32_TOLERANCE)  # it was TF32


def test_the_result_keeps_the_layout(path: str) -> None:
    for dtype in TOLERANCES:
        x, weight, bias = arguments_of(GROUPED, dtype)
        leaf = x.detach().requires_grad_()
        y = conv(leaf, weight, bias, **GROUPED.window().keywords(), relu=True)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert conv(x.contiguous(), weight, bias, **GROUPED.window().keywords()).is_contiguous()
        (dx,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
        assert dx.is_contiguous(memory_format=torch.channels_last)


def test_relu_and_strides(path: str) -> None:
    arguments = arguments_of(GROUPED, torch.float32)
    expected = forward_backward(partial(reference, relu=True), convert(arguments, torch.float64), GROUPED)
    x, weight, bias = arguments
    wide = torch.cat([x, x], 3)[..., : x.shape[3]]
    shifted = torch.cat([x.flatten()[:1], x.permute(0, 2, 3, 1).flatten()])[1:]  # not at 16 bytes
    shifted = shifted.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
    for other in (wide, shifted, x.contiguous()):
        actual = forward_backward(partial(run_conv, relu=True), (other, weight.contiguous(), bias), GROUPED)
        for a, e in zip(actual, expected, strict=True):
            assert close(a, e, FLOAT32_TOLERANCE)


def test_runs_repeat_bit_for_bit(path: str) -> None:
    for dtype in TOLERANCES:
        arguments = arguments_of(GROUPED, dtype)
        first, second = (forward_backward(run_conv, arguments, GROUPED) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_stream(path: str) -> None:
    arguments = arguments_of(GROUPED, torch.bfloat16)
    expected = forward_backward(run_conv, arguments, GROUPED)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # a kernel on the default stream would run before the input is there
        x, weight, bias = arguments
        late = x.clone(), weight.clone(), None if bias is None else bias.clone()
        actual = forward_backward(run_conv, late, GROUPED)
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_cuda_graph(path: str) -> None:
    x, weight, bias = arguments_of(GROUPED, torch.bfloat16)
    expected = conv(x, weight, bias, **GROUPED.window().keywords())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = conv(x, weight, bias, **GROUPED.window().keywords())
    y.fill_(torch.nan)
    graph.replay()
    assert torch.equal(y, expected)
