import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from caffe_compat.ops import linear
from caffe_compat.ops.linear import reference
from tests.ops.host_kernels import SANITIZE

ROOT = Path(__file__).parents[2]
# Roundings of float32 in sums of up to 3000 products of normal numbers, over the square root of their number.
TOLERANCE = 3e-6
# batch, inputs, outputs.  Below 2^16 weights PyTorch computes, so most have more.
SHAPES = [
    (1, 256, 256),
    (1, 1000, 77),
    (2, 7, 10007),  # fewer inputs than lanes
    (3, 10007, 7),
    (5, 3000, 33),  # several blocks of inputs, one output behind the last full tile
    (11, 129, 1025),
    (12, 512, 144),
    (13, 513, 145),
    (31, 300, 301),
    (32, 2304, 100),
    (33, 97, 1000),
    (64, 1040, 96),
    (100, 600, 130),
    (255, 257, 259),
    (256, 64, 1024),
    (257, 300, 300),  # PyTorch's
    (4, 3, 5),  # PyTorch's
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def poison(*sizes: int) -> None:
    """Leave NaN in freed memory, which the next outputs are likely to get."""
    for size in sizes:
        torch.full((size,), torch.nan)


def forward_backward(
    function: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor, dy: Tensor, *, relu: bool
) -> list[Tensor]:
    """Output and the gradients of input, weight and bias."""
    leaves = [t.detach().requires_grad_() for t in (x, w, b)]
    y = function(*leaves, relu)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def check(x: Tensor, w: Tensor, b: Tensor, dy: Tensor, relu: bool) -> None:
    """float32 against float64 of the same numbers."""
    poison(x.numel(), w.numel(), dy.numel(), 4096)
    actual = forward_backward(linear, x, w, b, dy, relu=relu)
    if relu:
        # An output near 0 may fall on the other side in float64: its gradient is ours to choose.
        dy = torch.where(actual[0] > 0, dy, 0)
    expected = forward_backward(reference, x.double(), w.double(), b.double(), dy.double(), relu=False)
    if relu:
        expected[0].relu_()
    depths = (w.shape[1], w.shape[0], x.shape[0], x.shape[0])
    for ours, theirs, depth in zip(actual, expected, depths, strict=True):
        assert ours.dtype == torch.float32
        assert ours.shape == theirs.shape
        tolerance = TOLERANCE * max(depth, 1) ** 0.5
        assert torch.allclose(ours.double(), theirs, rtol=TOLERANCE, atol=tolerance)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("batch", "inputs", "outputs"), SHAPES)
def test_equals_float64(batch: int, inputs: int, outputs: int, relu: bool) -> None:
    x, w, b = draw(batch, inputs), draw(outputs, inputs), draw(outputs)
    check(x.float(), w.float(), b.float(), draw(batch, outputs, seed=1).float(), relu)


def test_gradient_beyond_the_caches() -> None:
    # Large enough to be written past the caches; the second one's rows are not aligned to vectors.
    for inputs in (4096, 4100):
        x, dy = draw(3, inputs).float(), draw(3, 1030).float()
        actual = torch.ops.caffe_compat.linear_weight_grad(dy, x)
        assert torch.allclose(actual.double(), dy.double().t() @ x.double(), rtol=0, atol=1e-5)


def test_without_bias() -> None:
    x, w = draw(9, 300).float(), draw(400, 300).float()
    expected = x.double() @ w.double().t()
    assert torch.allclose(linear(x, w).double(), expected, rtol=0, atol=1e-4)
    assert torch.allclose(linear(x, w, relu=True).double(), expected.relu(), rtol=0, atol=1e-4)


def test_misaligned_and_strided_inputs() -> None:
    batch, inputs, outputs = 10, 301, 333
    x = draw(batch * inputs + 1).float()[1:].view(batch, inputs)
    w = draw(outputs * inputs + 3).float()[3:].view(outputs, inputs)
    b = draw(2 * outputs).float()[::2]
    dy = draw(outputs, batch).float().t()
    check(x, w, b, dy, relu=True)
    check(
        draw(inputs, 2 * batch).float().t()[::2], draw(inputs, outputs).float().t(), b, dy[:, :1].expand_as(dy), False
    )


@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(0, 300, 300), (3, 0, 5), (3, 5, 0)])
def test_empty(batch: int, inputs: int, outputs: int) -> None:
    shapes = [(batch, inputs), (outputs, inputs), (outputs,), (batch, outputs)]
    x, w, b, dy = (draw(*shape).float() for shape in shapes)
    check(x, w, b, dy, False)


def test_not_a_number_passes_through() -> None:
    x, w = torch.zeros(2, 300), torch.ones(300, 300)
    x[1, 7] = torch.nan
    y = linear(x, w, relu=True)
    assert y[1].isnan().all()
    assert (y[0] == 0).all()


def test_only_wanted_gradients() -> None:
    x, w, b = draw(4, 300).float(), draw(300, 300).float(), draw(300).float()
    w.requires_grad_()
    y = linear(x, w, b, True)
    y.sum().backward()
    assert w.grad is not None
    assert x.grad is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_pytorchs(dtype: torch.dtype) -> None:
    x, w, b = draw(4, 300).to(dtype), draw(300, 300).to(dtype), draw(300).to(dtype)
    assert torch.equal(linear(x, w, b, True), reference(x, w, b, True))


def test_autocast() -> None:
    x, w = draw(4, 300).float(), draw(300, 300).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, w).dtype == torch.bfloat16


def test_opcheck() -> None:
    ops = torch.ops.caffe_compat
    for batch, size in ((3, 300), (2, 4)):
        x, w, b, dy = (draw(*s).float() for s in [(batch, size), (size, size), (size,), (batch, size)])
        leaves = [t.requires_grad_() for t in (x, w, b)]
        torch.library.opcheck(ops.linear, (*leaves, True))
        torch.library.opcheck(ops.linear, (x, w, None, False))
        torch.library.opcheck(ops.linear_input_grad, (dy, w.detach()))
        torch.library.opcheck(ops.linear_weight_grad, (dy, x.detach()))


def test_compiles_without_graph_breaks() -> None:
    def step(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return (linear(x, w, b, True) * 2).sum()

    leaves = [draw(*s).float().requires_grad_() for s in [(5, 300), (400, 300), (400,)]]
    expected = torch.autograd.grad(step(*leaves), leaves)
    actual = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(*leaves), leaves)
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_no_sum_depends_on_the_threads() -> None:
    x, w, b, dy = (draw(*s).float() for s in [(20, 1111), (777, 1111), (777,), (20, 777)])
    threads = torch.get_num_threads()
    runs = []
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            runs.append(forward_backward(linear, x, w, b, dy, relu=True)[:3])
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def _digest() -> str:
    """Of all results on one shape: tells the vector sets apart, for they sum in other orders."""
    x, w, b, dy = (draw(*s).float() for s in [(20, 1111), (777, 1111), (777,), (20, 777)])
    results = forward_backward(linear, x, w, b, dy, relu=True)
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in results)).hexdigest()


@pytest.mark.parametrize("level", ["none", "avx2"])
def test_other_vector_sets(level: str) -> None:
    # The level is read once a process.  These tests run in it again; -k keeps it from starting a third.  With "none"
    # PyTorch's product takes over, whose sums do depend on the threads on some machines.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__]
    command += ["-k", "float64 or caches or strided or empty or number" + (" or threads" if level != "none" else "")]
    environment = os.environ | {"CAFFE_COMPAT_SIMD": level}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    code = "from tests.ops.test_linear import _digest; print(_digest())"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    if os.environ.get("CAFFE_COMPAT_SIMD", "avx512") == "avx512" and level == "none":
        assert run.stdout.strip() != _digest()  # the variable has an effect


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers")
def test_kernels_alone_under_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "linear"
    flags = ["-std=c++20", "-O1", "-Wall", "-Wno-unknown-pragmas", *SANITIZE]
    flags += [f"-I{ROOT}/csrc"]
    sources = [ROOT / "tests/ops/host_simd/linear.cpp", *(ROOT / "csrc/linear").glob("linear_avx*.cpp")]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(program)], check=True)
    run = subprocess.run([str(program)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


@pytest.mark.parametrize(
    ("x", "w", "b", "error", "text"),
    [
        ((2, 3), (4, 5), None, ValueError, r"input is Float \[2, 3\] on cpu but weight is Float \[4, 5\]"),
        ((2, 3, 1), (4, 3), None, ValueError, "expected 2 axes"),
        ((2, 3), (3,), None, ValueError, "weight is .* expected 2 axes"),
        ((2, 3), (4, 3), (3,), ValueError, r"bias is Float \[3\] on cpu; expected \[4\]"),
    ],
)
def test_errors_say_what_came(
    x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        linear(torch.zeros(x), torch.zeros(w), None if b is None else torch.zeros(b))


def test_gradients_check_their_arguments() -> None:
    ops = torch.ops.caffe_compat
    with pytest.raises(ValueError, match="linear_input_grad: grad is"):
        ops.linear_input_grad(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="linear_weight_grad: grad is"):
        ops.linear_weight_grad(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(TypeError, match="expected float32"):
        ops.linear_weight_grad(torch.zeros(2, 3), torch.zeros(2, 3).double())


def test_double_backward_is_refused() -> None:
    x = draw(2, 300).float().requires_grad_()
    (grad,) = torch.autograd.grad(linear(x, draw(300, 300).float()).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not twice differentiable"):
        grad.sum().backward()
