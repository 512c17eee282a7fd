from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops import lrn, max_pool, relu_pool_lrn
from caffe_compat.ops.pool import chain_reference, reference
from tests.ops.pool_cases import POOL_CASES, PoolCase

LAYOUTS = [torch.contiguous_format, torch.channels_last]
FLOAT64_TOLERANCE = 1e-12  # LRN's: a few dozen roundings
FLOAT32_TOLERANCE = 2e-6
HALF_TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def make_input(case: PoolCase, device: torch.device, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Small integers, so that there are many ties."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-3, 4, case.input, generator=generator).double().to(device)
    return x.contiguous(memory_format=layout)


def make_grad(like: Tensor) -> Tensor:
    """Small integers again: their sums are exact in every dtype."""
    return torch.randint(-3, 4, like.shape, generator=torch.Generator().manual_seed(2)).to(like)


def poison(device: torch.device) -> None:
    """Leave NaN in freed memory, which the next outputs are likely to get."""
    for size in (64, 1024, 16384):
        torch.full((size,), torch.nan, device=device)


def forward_backward(
    function: Callable[..., Tensor], x: Tensor, *window: Sequence[int], **options: Any
) -> tuple[Tensor, Tensor]:
    """Output and gradient of the input, for a fixed gradient of the output."""
    x = x.detach().requires_grad_()
    y = function(x, *window, **options)
    (dx,) = torch.autograd.grad(y, x, make_grad(y))
    return y.detach(), dx


def chain_options(case: PoolCase) -> dict[str, Any]:
    return {"relu": case.relu, "local_size": case.local_size, "alpha": 0.3, "beta": case.beta, "k": 2.0}


def close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    return torch.allclose(actual.double(), expected, rtol=0, atol=tolerance * scale)


def dtypes(device: torch.device) -> list[torch.dtype]:
    return [torch.float32, torch.float64] + ([torch.float16, torch.bfloat16] if device.type == "cuda" else [])


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pool_equals_the_twin(case: PoolCase, layout: torch.memory_format, device: torch.device) -> None:
    x = make_input(case, device, layout)
    y_expected, dx_expected = forward_backward(reference, x, *case.window(), relu=case.relu)
    for dtype in dtypes(device):
        poison(device)
        y, dx = forward_backward(max_pool, x.to(dtype), *case.window(), relu=case.relu)
        assert y.dtype == dx.dtype == dtype
        assert torch.equal(y.double(), y_expected)
        assert torch.equal(dx.double(), dx_expected)
        assert not x.numel() or y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_chain_equals_the_twin(case: PoolCase, layout: torch.memory_format, device: torch.device) -> None:
    x = make_input(case, device, layout)
    expected = forward_backward(chain_reference, x, *case.window(), **chain_options(case))
    tolerances = {torch.float64: FLOAT64_TOLERANCE, torch.float32: FLOAT32_TOLERANCE}
    if device.type == "cuda":
        tolerances |= HALF_TOLERANCE
    for dtype, tolerance in tolerances.items():
        poison(device)
        for a, e in zip(
            forward_backward(relu_pool_lrn, x.to(dtype), *case.window(), **chain_options(case)), expected, strict=True
        ):
            assert a.dtype == dtype
            assert close(a, e, tolerance)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_chain_equals_its_stages_bit_for_bit(case: PoolCase, layout: torch.memory_format, device: torch.device) -> None:
    def stages(x: Tensor, *window: Sequence[int], relu: bool, **norm: Any) -> Tensor:
        return lrn(max_pool(functional.relu(x) if relu else x, *window), **norm)

    generator = torch.Generator().manual_seed(3)
    x = torch.randn(case.input, generator=generator).to(device).contiguous(memory_format=layout)
    for a, e in zip(
        forward_backward(relu_pool_lrn, x, *case.window(), **chain_options(case)),
        forward_backward(stages, x, *case.window(), **chain_options(case)),
        strict=True,
    ):
        assert torch.equal(a, e)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads: int) -> None:
    case = PoolCase((2, 20, 13, 13), (6, 6), relu=True)
    x = make_input(case, torch.device("cpu"))
    expected = forward_backward(chain_reference, x, *case.window(), **chain_options(case))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = forward_backward(relu_pool_lrn, x, *case.window(), **chain_options(case))
    finally:
        torch.set_num_threads(before)
    for a, e in zip(actual, expected, strict=True):
        assert close(a, e, FLOAT64_TOLERANCE)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("relu", [False, True])
def test_nan_and_infinity_are_passed_on(relu: bool, layout: torch.memory_format, device: torch.device) -> None:
    x = torch.zeros(1, 20, 4, 4, device=device)
    x[0, 1, 1, 2] = torch.nan
    x[0, 2, 3, 3] = torch.inf
    x[0, 3] = -torch.inf
    x = x.contiguous(memory_format=layout)
    window = ((2, 2), (2, 2), (0, 0), (2, 2))
    actual = forward_backward(max_pool, x, *window, relu=relu)
    # In channels_last on CUDA PyTorch's kernel, which the twin calls, loses the gradient of a window of nothing but
    # -infinity: it names pixel 0 of the plane as the maximum, which only the first window has.
    twin = forward_backward(reference, x.contiguous(), *window, relu=relu)
    for a, e in zip(actual, twin, strict=True):
        assert torch.equal(a.isnan(), e.isnan())
        assert torch.equal(a.nan_to_num(7.0), e.nan_to_num(7.0))


def test_non_contiguous_input_and_grad(device: torch.device) -> None:
    wide = make_input(PoolCase((5, 6, 7, 8), (1, 1)), device)
    x = wide.permute(3, 2, 1, 0)[::2]  # (4, 7, 6, 5), strided
    window = ((3, 3), (2, 2), (0, 0), (3, 2))
    expected = forward_backward(reference, x, *window, relu=True)
    for a, e in zip(forward_backward(max_pool, x, *window, relu=True), expected, strict=True):
        assert torch.equal(a, e)
    leaf = x.detach().requires_grad_()
    relu_pool_lrn(leaf, *window).sum().backward()  # the grad is an expanded scalar
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


def test_gradcheck(device: torch.device) -> None:
    # Distinct values, far apart: no kink within the steps of gradcheck.
    x = torch.randperm(2 * 4 * 6 * 5, generator=torch.Generator().manual_seed(1)).double().view(2, 4, 6, 5) - 100
    x = (x / 50).to(device).requires_grad_()
    window = ((3, 3), (2, 2), (0, 0), (3, 2))
    assert torch.autograd.gradcheck(lambda t: relu_pool_lrn(t, *window, local_size=3, alpha=1.5), (x,))


def test_opcheck(device: torch.device) -> None:
    x = make_input(PoolCase((2, 4, 7, 6), (3, 3)), device).float()
    window = ([3, 3], [2, 2], [0, 0])
    ops = torch.ops.caffe_compat
    for layout in LAYOUTS:
        laid_out = x.contiguous(memory_format=layout)
        chain = (laid_out.clone().requires_grad_(), *window, [3, 3], True, 5, 1.0, 0.75, 1.0)
        torch.library.opcheck(ops.max_pool, chain[:6])
        torch.library.opcheck(ops.relu_pool_lrn, chain)
        y, pooled, tap = ops.relu_pool_lrn(laid_out, *chain[1:])
        torch.library.opcheck(ops.max_pool_backward, (y, tap, 7, 6, *window))
        torch.library.opcheck(ops.relu_pool_lrn_backward, (y, pooled, tap, 7, 6, *window, 5, 1.0, 0.75, 1.0))


def test_compiles_without_graph_breaks(device: torch.device) -> None:
    def step(t: Tensor) -> Tensor:
        pooled = max_pool(t * 2, (3, 3), (2, 2), (0, 0), (3, 3))
        return relu_pool_lrn(pooled, (2, 2), (1, 1), (0, 0), (2, 2)).sum()

    x = make_input(PoolCase((2, 6, 7, 6), (3, 3)), device).float().requires_grad_()
    (expected,) = torch.autograd.grad(step(x), x)
    (actual,) = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(x), x)
    assert torch.allclose(actual, expected, atol=1e-6)


def test_autocast(device: torch.device) -> None:
    case = PoolCase((2, 6, 7, 7), (3, 3))
    x = make_input(case, device).to(torch.bfloat16)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        pooled, normed = max_pool(x, *case.window()), relu_pool_lrn(x, *case.window(), **chain_options(case))
    assert pooled.dtype == normed.dtype == (torch.float32 if device.type == "cpu" else torch.bfloat16)
    assert torch.equal(pooled.double(), reference(x.double(), *case.window()))
    assert close(
        normed, chain_reference(x.double(), *case.window(), **chain_options(case)), HALF_TOLERANCE[torch.bfloat16]
    )


def test_the_input_is_not_kept_for_the_gradient() -> None:
    x = torch.randn(2, 8, 13, 13, requires_grad=True)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        relu_pool_lrn(x * 1, (3, 3), (2, 2), (0, 0), (6, 6))
    assert sum(kept) - 4 <= 2 * 8 * 36 * 5  # the pooled values and a byte each; 4: the factor 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((3, 3), (2, 2), (0, 0), (5, 3)), r"the last window starts outside the input \[2, 4, 7, 6\]"),
        (((3, 3), (2, 2), (3, 0), (3, 3)), "padding below the kernel"),
        (((3, 3), (0, 2), (0, 0), (3, 3)), "expected kernel, stride and size of at least 1"),
        (((16, 16), (2, 2), (0, 0), (1, 1)), r"kernel \[16, 16\] has 256 taps; expected at most 255"),
        (((3, 3, 3), (2, 2), (0, 0), (3, 3)), "expected two numbers each"),
    ],
)
def test_errors_say_what_came(arguments: tuple[Any, Any, Any, Any], text: str, device: torch.device) -> None:
    with pytest.raises(ValueError, match=text):
        max_pool(torch.zeros(2, 4, 7, 6, device=device), *arguments)


def test_other_ranks_and_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"input is Float \[4, 7, 6\] on cpu; expected 4 axes"):
        max_pool(torch.zeros(4, 7, 6), (3, 3), (2, 2), (0, 0), (3, 3))
    with pytest.raises(TypeError, match="expected float32 or float64 on the CPU"):
        max_pool(torch.zeros(1, 1, 3, 3).half(), (3, 3), (2, 2), (0, 0), (1, 1))
    with pytest.raises(ValueError, match="local_size is 4; expected an odd number"):
        relu_pool_lrn(torch.zeros(1, 1, 3, 3), (3, 3), (2, 2), (0, 0), (1, 1), local_size=4)
    tap = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"grad is .*\[1, 1, 2, 1\].* but tap is .*expected the same shape"):
        torch.ops.caffe_compat.max_pool_backward(torch.zeros(1, 1, 2, 1), tap, 3, 3, [3, 3], [2, 2], [0, 0])


def test_double_backward_is_refused(device: torch.device) -> None:
    x = torch.randn(1, 2, 5, 5, device=device, requires_grad=True)
    y = relu_pool_lrn(x, (3, 3), (2, 2), (0, 0), (2, 2))
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not twice differentiable"):
        grad.sum().backward()
