from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.nn import functional

from caffe_compat.ops import ConvWindow, conv
from caffe_compat.ops.conv import reference
from tests.ops.conv_cases import CONV_CASES, NHWC_CASES, ConvCase

FLOAT64_TOLERANCE = 1e-13  # relative to the largest value; sums of up to 1,000 products
FLOAT32_TOLERANCE = 5e-6
HALF_TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # float32 sums, rounded once to the type

#: input, weight and bias
Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
Function = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, ConvWindow], torch.Tensor]


def make_arguments(case: ConvCase, device: torch.device) -> Arguments:
    """Input, weight and bias in float64."""
    generator = torch.Generator().manual_seed(1)
    shapes: list[tuple[int, ...]] = [case.input, case.weight, (case.outputs,)]
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64).to(device) for shape in shapes)
    return x, weight, bias if case.bias else None


def convert(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    x, weight, bias = arguments
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def forward_backward(function: Function, arguments: Arguments, case: ConvCase) -> list[torch.Tensor]:
    """Output and the gradients of input, weight and bias, for a fixed gradient of the output."""
    leaves = [t.detach().requires_grad_() for t in arguments if t is not None]
    y = function(leaves[0], leaves[1], leaves[2] if case.bias else None, case.window())
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.to(y))]


def run_conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, window: ConvWindow, relu: bool = False
) -> torch.Tensor:
    return conv(x, weight, bias, **window.keywords(), relu=relu)


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    return torch.allclose(actual.double(), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", [*CONV_CASES, *NHWC_CASES], ids=str)
def test_equals_the_twin(case: ConvCase, device: torch.device) -> None:
    arguments = make_arguments(case, device)
    tolerances = {torch.float64: FLOAT64_TOLERANCE, torch.float32: FLOAT32_TOLERANCE}
    if device.type == "cuda":
        tolerances |= HALF_TOLERANCE
    for dtype, tolerance in tolerances.items():
        rounded = convert(arguments, dtype)
        expected = forward_backward(reference, convert(rounded, torch.float64), case)
        torch.full((4096,), torch.nan, device=device)  # poison memory that the outputs may get
        actual = forward_backward(run_conv, rounded, case)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            assert close(a, e, tolerance)


def test_relu_in_the_same_kernel(device: torch.device) -> None:
    case = ConvCase((2, 16, 6, 5), 16, (3, 3), padding=(1, 1), groups=2)
    arguments = make_arguments(case, device)
    expected = forward_backward(partial(reference, relu=True), arguments, case)
    actual = forward_backward(partial(run_conv, relu=True), arguments, case)
    for a, e in zip(actual, expected, strict=True):
        assert close(a, e, FLOAT64_TOLERANCE)
    assert (expected[0] == 0).any()
    x = torch.full((1, 2, 3, 3, 3), -1.0, device=device)
    assert not conv(x, torch.ones(1, 2, 1, 1, 1, device=device), relu=True).any()  # three axes too


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_twin_equals_pytorch(case: ConvCase) -> None:
    arguments = make_arguments(case, torch.device("cpu"))
    expected = forward_backward(lambda x, w, b, window: functional.conv2d(x, w, b, *window), arguments, case)
    for a, e in zip(forward_backward(reference, arguments, case), expected, strict=True):
        assert close(a, e, FLOAT64_TOLERANCE)


def test_layouts_and_strides(device: torch.device) -> None:
    case = ConvCase((2, 4, 6, 5), 6, (3, 3), padding=(1, 1), groups=2)
    x, weight, bias = make_arguments(case, device)
    expected = forward_backward(reference, (x, weight, bias), case)
    strided = torch.cat([x, x], 3)[..., :5]
    for laid_out in (x.contiguous(memory_format=torch.channels_last), strided):
        actual = forward_backward(run_conv, (laid_out, weight.transpose(2, 3).clone().transpose(2, 3), bias), case)
        for a, e in zip(actual, expected, strict=True):
            assert close(a, e, FLOAT64_TOLERANCE)
    leaf = x.detach().requires_grad_()
    conv(leaf, weight, bias, **case.window().keywords()).sum().backward()  # the grad is an expanded scalar
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


def test_batch_smaller_than_the_threads() -> None:
    case = ConvCase((1, 8, 9, 9), 8, (3, 3), padding=(1, 1), groups=2)
    arguments = make_arguments(case, torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        actual = forward_backward(run_conv, arguments, case)
    finally:
        torch.set_num_threads(threads)
    for a, e in zip(actual, forward_backward(reference, arguments, case), strict=True):
        assert close(a, e, FLOAT64_TOLERANCE)


@pytest.mark.parametrize("axes", [1, 3, 4])
def test_other_numbers_of_axes(axes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, *[5] * axes, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 2, *[2] * axes, generator=generator, dtype=torch.float64)
    bias = torch.randn(6, generator=generator, dtype=torch.float64)
    y = conv(x, weight, bias, stride=2, padding=1, dilation=2, groups=2)
    assert close(
        y,
        reference(x, weight, bias, ConvWindow.per_axis(axes, stride=2, padding=1, dilation=2, groups=2)),
        FLOAT64_TOLERANCE,
    )
    # One output element by hand: channel 5 (group 1) at the second position of each axis; taps at 1 and 3.
    taken = x[1, 2:][(slice(None), *[slice(1, 4, 2)] * axes)]
    assert torch.allclose(y[1, 5][(1,) * axes], (taken * weight[5]).sum() + bias[5])


def test_gradcheck(device: torch.device) -> None:
    case = ConvCase((2, 4, 5, 4), 4, (2, 3), (2, 1), (1, 1), (1, 2), 2)
    leaves = [t.requires_grad_() for t in make_arguments(case, device) if t is not None]
    assert torch.autograd.gradcheck(lambda x, w, b: conv(x, w, b, **case.window().keywords()), leaves)


def test_only_wanted_gradients_are_saved() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3)
    saved: list[torch.Size] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = conv(x, weight)
    assert saved == [weight.shape]
    y.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.autograd.grad(functional.conv2d(x, weight).sum(), x)[0], atol=1e-5)


def test_opcheck(device: torch.device) -> None:
    case = ConvCase((2, 4, 5, 5), 4, (3, 3), padding=(1, 1), groups=2)
    x, weight, bias = convert(make_arguments(case, device), torch.float32)
    ops = torch.ops.caffe_compat
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias) if t is not None]
    torch.library.opcheck(ops.conv, (*leaves, *case.window()))
    torch.library.opcheck(ops.conv, (x, weight, None, *case.window()))
    torch.library.opcheck(ops.conv_relu, (*leaves, *case.window()))
    last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(ops.conv, (last, *leaves[1:], *case.window()))
    grad = torch.ones(2, 4, 5, 5, device=device)
    torch.library.opcheck(ops.conv_input_grad, (grad, weight, 5, 5, *case.window()))
    torch.library.opcheck(ops.conv_weight_grad, (grad, x, 3, 3, *case.window()))


def test_compiles_without_graph_breaks(device: torch.device) -> None:
    def step(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return conv(x * 2, weight, padding=1).relu().sum()

    x = torch.randn(2, 3, 5, 5, device=device, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, device=device, requires_grad=True)
    expected = torch.autograd.grad(step(x, weight), (x, weight))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for a, e in zip(torch.autograd.grad(compiled(x, weight), (x, weight)), expected, strict=True):
        assert torch.allclose(a, e, atol=1e-5)


def test_autocast(device: torch.device) -> None:
    case = ConvCase((2, 4, 6, 5), 6, (3, 3), groups=2)
    arguments = make_arguments(case, device)
    expected = forward_backward(reference, arguments, case)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y, cut = (
            conv(*convert(arguments, torch.float32), **case.window().keywords(), relu=relu) for relu in (False, True)
        )
    assert y.dtype == cut.dtype == (torch.float32 if device.type == "cpu" else torch.bfloat16)
    assert close(y, expected[0], 2 * HALF_TOLERANCE[torch.bfloat16])
    assert torch.equal(cut, y.relu())


def test_runs_repeat_bit_for_bit(device: torch.device) -> None:
    case = ConvCase((5, 12, 9, 9), 20, (3, 3), padding=(1, 1), groups=2)
    arguments = convert(make_arguments(case, device), torch.float32)
    first, second = (forward_backward(run_conv, arguments, case) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, w: conv(x, w[:, :1]), r"input \[2, 4, 5, 5\], weight \[6, 1, 3, 3\], groups 1; expected"),
        (lambda x, w: conv(x, w, groups=4), "output channels divisible by groups"),
        (lambda x, w: conv(x[..., :2], w), r"kernel \[3, 3\] does not fit into input \[2, 4, 5, 2\]"),
        (lambda x, w: conv(x, w, stride=0), "expected stride and dilation of at least 1"),
        (lambda x, w: conv(x, w, padding=(1, 2, 3)), r"padding is \(1, 2, 3\); expected one number, or 2"),
        (lambda x, w: conv(x, w, x[0, 0, 0]), r"bias is Float \[5\] on .*; expected \[6\]"),
        (lambda x, w: conv(x, w.double()), "expected the same dtype and device"),
        (lambda x, w: conv(x[0], w), "equally many axes"),
        (
            lambda x, w: torch.ops.caffe_compat.conv_input_grad(x, w, 5, 5, (1, 1), (0, 0), (1, 1), 1),
            r"grad is Float \[2, 4, 5, 5\] on .*; expected \[2, 6, 3, 3\]",
        ),
        (
            lambda x, w: torch.ops.caffe_compat.conv_input_grad(x, w, 5, 5, [1], [0], [1], 1),
            r"stride \[1\], padding \[0\], dilation \[1\]; expected two numbers each",
        ),
    ],
)
def test_errors_say_what_came(
    call: Callable[[torch.Tensor, torch.Tensor], object], text: str, device: torch.device
) -> None:
    with pytest.raises(ValueError, match=text):
        call(torch.zeros(2, 4, 5, 5, device=device), torch.zeros(6, 4, 3, 3, device=device))


def test_another_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="expected float32 or float64 on the CPU"):
        conv(torch.zeros(1, 1, 3, 3).half(), torch.zeros(1, 1, 3, 3).half())


def test_double_backward_is_refused(device: torch.device) -> None:
    x = torch.randn(1, 2, 4, 4, device=device, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(conv(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not twice differentiable"):
        grad.sum().backward()
