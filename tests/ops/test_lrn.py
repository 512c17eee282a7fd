from collections.abc import Callable

import pytest
import torch

from caffe_compat.ops import lrn
from caffe_compat.ops.lrn import reference
from tests.ops.lrn_cases import LRN_CASES, LrnCase

FLOAT64_TOLERANCE = 1e-12  # a few dozen roundings of float64
FLOAT32_TOLERANCE = 2e-6  # a few dozen roundings of float32, no cancellation in the sums of squares
HALF_TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # two roundings to the type, all else in float32
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def make_input(
    case: LrnCase, device: torch.device, layout: torch.memory_format = torch.contiguous_format
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.shape, generator=generator, dtype=torch.float64).to(device)
    return x.contiguous(memory_format=layout)


def poison(device: torch.device) -> None:
    """Leave NaN in freed memory, which the next outputs are likely to get."""
    for size in (64, 1024, 16384):
        torch.full((size,), torch.nan, device=device)


def forward_backward(
    function: Callable[..., torch.Tensor], x: torch.Tensor, case: LrnCase
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and gradient of the input, for a fixed gradient of the output."""
    x = x.detach().requires_grad_()
    y = function(x, *case.window(), norm_region=case.norm_region)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (dx,) = torch.autograd.grad(y, x, grad.to(y))
    return y.detach(), dx


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    return torch.allclose(actual.double(), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", LRN_CASES, ids=str)
def test_equals_the_twin(case: LrnCase, layout: torch.memory_format, device: torch.device) -> None:
    x = make_input(case, device, layout)
    y_expected, dx_expected = forward_backward(reference, x, case)
    tolerances = {torch.float64: FLOAT64_TOLERANCE, torch.float32: FLOAT32_TOLERANCE}
    if device.type == "cuda":
        tolerances |= HALF_TOLERANCE
    for dtype, tolerance in tolerances.items():
        if dtype not in (torch.float64, torch.float32):
            y_expected, dx_expected = forward_backward(reference, x.to(dtype).double(), case)
        poison(device)
        y, dx = forward_backward(lrn, x.to(dtype), case)
        assert y.dtype == dx.dtype == dtype
        assert close(y, y_expected, tolerance)
        assert close(dx, dx_expected, tolerance)
        if x.numel():
            assert y.is_contiguous(memory_format=layout)


def test_caffes_formula_by_hand() -> None:
    # scale = 1 + 2 / 3 * (1 + 4) = 13 / 3 in both channels
    x = torch.tensor([1.0, 2.0], dtype=torch.float64).view(1, 2, 1, 1)
    y = lrn(x, local_size=3, alpha=2.0, beta=0.75, k=1.0)
    assert torch.allclose(y, x * (13 / 3) ** -0.75, rtol=1e-14)


def test_equals_pytorchs_where_both_exist(device: torch.device) -> None:
    x = make_input(LrnCase((2, 12, 5, 5)), device)
    expected = torch.nn.functional.local_response_norm(x, 5, alpha=0.3, beta=0.75, k=2.0)
    assert close(lrn(x, 5, 0.3, 0.75, 2.0), expected, FLOAT64_TOLERANCE)


def test_non_contiguous_input_and_grad(device: torch.device) -> None:
    case = LrnCase((4, 7, 6, 5))
    wide = make_input(LrnCase((5, 6, 7, 8)), device)
    x = wide.permute(3, 2, 1, 0)[::2, :, :, :]  # (4, 7, 6, 5), strided
    y_expected, dx_expected = forward_backward(reference, x, case)
    y, dx = forward_backward(lrn, x, case)
    assert close(y, y_expected, FLOAT64_TOLERANCE)
    assert close(dx, dx_expected, FLOAT64_TOLERANCE)
    x = x.detach().requires_grad_()
    lrn(x).sum().backward()  # the grad is an expanded scalar
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("norm_region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, 0.6])
def test_gradcheck(beta: float, norm_region: str, device: torch.device) -> None:
    x = make_input(LrnCase((2, 4, 3, 3)), device).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: lrn(t, 3, 1.5, beta, norm_region=norm_region), (x,))


def test_large_values_keep_their_precision(device: torch.device) -> None:
    # A running sum, as in Caffe, would lose the small channels behind the large one.
    x = torch.ones(1, 12, 1, 1, device=device)
    x[0, 2] = 1e4
    expected = reference(x.double(), 3)
    assert torch.allclose(lrn(x, 3).double(), expected, rtol=1e-6)


@pytest.mark.parametrize("norm_region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_opcheck(norm_region: str, device: torch.device) -> None:
    x = make_input(LrnCase((2, 4, 5, 5)), device).float()
    within = norm_region == "WITHIN_CHANNEL"
    for layout in LAYOUTS:
        laid_out = x.contiguous(memory_format=layout)
        arguments = (5, 1.0, 0.75, 1.0, within)
        torch.library.opcheck(torch.ops.caffe_compat.lrn, (laid_out.clone().requires_grad_(), *arguments))
        torch.library.opcheck(torch.ops.caffe_compat.lrn_backward, (laid_out, laid_out, *arguments))


def test_compiles_without_graph_breaks(device: torch.device) -> None:
    def step(t: torch.Tensor) -> torch.Tensor:
        return lrn(t.relu() * 2, 3, 1e-2).sum()

    x = make_input(LrnCase((2, 6, 4, 4)), device).float().requires_grad_()
    (expected,) = torch.autograd.grad(step(x), x)
    (actual,) = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(x), x)
    assert torch.allclose(actual, expected, atol=1e-6)


def test_autocast(device: torch.device) -> None:
    x = make_input(LrnCase((2, 6, 4, 4)), device).to(torch.bfloat16)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y = lrn(x)
    assert y.dtype == (torch.float32 if device.type == "cpu" else torch.bfloat16)
    assert close(y, reference(x.double()), HALF_TOLERANCE[torch.bfloat16])


def test_runs_repeat_bit_for_bit(device: torch.device) -> None:
    case = LrnCase((3, 17, 11, 9))
    x = make_input(case, device).float()
    first, second = forward_backward(lrn, x, case), forward_backward(lrn, x, case)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: lrn(x, 4), ValueError, "local_size is 4; expected an odd number"),
        (lambda x: lrn(x, -1), ValueError, "local_size is -1"),
        (lambda x: lrn(x[0]), ValueError, r"input is Float \[3, 4, 4\] on .*; expected 4 axes"),
        (lambda x: lrn(x, norm_region="BOTH"), ValueError, "norm_region is 'BOTH'; expected one of"),
        (lambda x: lrn(x.int()), TypeError, "input is Int .* expected float32 or float64"),
        (
            lambda x: torch.ops.caffe_compat.lrn_backward(x[:1], x, 5, 1.0, 0.75, 1.0, False),
            ValueError,
            "expected the same shape",
        ),
    ],
)
def test_errors_say_what_came(
    call: Callable[[torch.Tensor], object], error: type[Exception], text: str, device: torch.device
) -> None:
    with pytest.raises(error, match=text):
        call(torch.zeros(2, 3, 4, 4, device=device))


def test_double_backward_is_refused(device: torch.device) -> None:
    x = make_input(LrnCase((1, 3, 2, 2)), device).requires_grad_()
    (grad,) = torch.autograd.grad(lrn(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not twice differentiable"):
        grad.sum().backward()
