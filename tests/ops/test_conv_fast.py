import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_compat.ops import fast_conv
from caffe_compat.ops.conv import reference
from caffe_compat.ops.conv_fast import LARGEST_TILES
from tests.ops.conv_cases import CONV_CASES, ConvCase
from tests.ops.host_kernels import SANITIZE
from tests.ops.test_conv import Arguments, close, convert, forward_backward, make_arguments

ROOT = Path(__file__).parents[2]
# Relative to the largest value.  Tiles of 6 lose up to four bits: see fast_conv's docstring.
TOLERANCES = {0: 5e-6, 4: 5e-6, 6: 2e-5}

SAME: dict[str, Any] = {"kernel": (3, 3), "padding": (1, 1)}
FAST_CASES = [
    ConvCase((2, 16, 13, 13), 16, **SAME),
    ConvCase((1, 17, 9, 8), 31, (3, 3)),  # no whole number of vectors
    ConvCase((2, 8, 6, 7), 8, (3, 3), padding=(0, 2)),
    ConvCase((2, 20, 8, 8), 24, (3, 3), padding=(3, 3)),  # the gradient's padding is negative
    ConvCase((1, 16, 3, 3), 16, (3, 3)),  # one output pixel
    ConvCase((1, 16, 1, 1), 16, **SAME),
    ConvCase((3, 96, 7, 9), 128, groups=4, **SAME),
    ConvCase((2, 40, 27, 27), 72, (5, 5), padding=(2, 2), groups=2),  # conv2 of CaffeNet in small
    ConvCase((1, 48, 11, 5), 48, (5, 5), padding=(1, 3), bias=False),
    ConvCase((1, 16, 5, 5), 16, (5, 5)),
    ConvCase((40, 64, 13, 13), 96, **SAME),  # several blocks and chunks of tiles
    ConvCase((2, 3, 31, 35), 20, (11, 11), stride=(4, 4)),
    ConvCase((1, 3, 20, 16), 64, (7, 7), stride=(2, 2), padding=(3, 3)),
    ConvCase((2, 1, 12, 12), 20, (5, 5)),  # LeNet's first
    ConvCase((3, 4, 9, 10), 49, (3, 2), padding=(2, 1), dilation=(2, 1)),
    ConvCase((0, 32, 9, 9), 32, **SAME),  # no images
]
LEVELS = ("avx2", "avx512")
BUILD = ["g++", "-std=c++20", "-O1", "-g1", "-ffp-contract=off", "-w", f"-I{ROOT / 'csrc'}"]
BUILD += SANITIZE


def run(case: ConvCase, arguments: Arguments, tile: int, relu: bool = False) -> list[torch.Tensor]:
    """fast_conv's output and gradients in float32."""
    return forward_backward(
        lambda x, w, b, window: fast_conv(x, w, b, **window.keywords(), relu=relu, largest_tile=tile), arguments, case
    )


def single(case: ConvCase) -> Arguments:
    """Arguments in float32."""
    return convert(make_arguments(case, torch.device("cpu")), torch.float32)


@pytest.mark.parametrize("case", CONV_CASES + FAST_CASES, ids=str)
def test_equals_the_twin(case: ConvCase) -> None:
    arguments = single(case)
    expected = forward_backward(reference, convert(arguments, torch.float64), case)
    for tile in LARGEST_TILES:
        torch.full((1 << 16,), torch.nan)  # poison memory that the outputs may get
        actual = run(case, arguments, tile)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == torch.float32
            assert close(a, e, TOLERANCES[tile])
        assert actual[0].is_contiguous(memory_format=torch.channels_last)
        assert actual[1].is_contiguous(memory_format=torch.channels_last)
        assert actual[2].is_contiguous()
        again = run(case, arguments, tile)
        assert all(torch.equal(a, b) for a, b in zip(actual, again, strict=True))


@pytest.mark.parametrize("case", [FAST_CASES[1], FAST_CASES[7], FAST_CASES[11], CONV_CASES[5]], ids=str)
def test_relu(case: ConvCase) -> None:
    arguments = single(case)
    leaves = [t.requires_grad_() for t in arguments if t is not None]
    grad = None
    for tile in LARGEST_TILES:
        plain = fast_conv(*leaves, **case.window().keywords(), largest_tile=tile)
        y = fast_conv(*leaves, **case.window().keywords(), relu=True, largest_tile=tile)
        assert torch.equal(y, plain.relu())
        grad = torch.randn_like(y)
        expected = torch.autograd.grad(plain.relu(), leaves, grad)
        for a, e in zip(torch.autograd.grad(y, leaves, grad), expected, strict=True):
            assert torch.equal(a, e)


def test_not_a_number_comes_through() -> None:
    for case in (FAST_CASES[0], FAST_CASES[11]):
        x, weight, bias = single(case)
        x[0] = torch.nan
        for relu in (False, True):
            y = fast_conv(x, weight, bias, **case.window().keywords(), relu=relu)
            assert y[0].isnan().all()
            assert y[1:].isfinite().all()


@pytest.mark.parametrize("case", [FAST_CASES[7], FAST_CASES[10], FAST_CASES[11]], ids=str)
def test_same_bits_on_any_number_of_threads(case: ConvCase) -> None:
    arguments = single(case)
    threads = torch.get_num_threads()
    x, weight, bias = arguments
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = fast_conv(x, weight, bias, **case.window().keywords())
            window = (*case.window(), 6)
            results.append([y, torch.ops.caffe_compat.conv_fast_weight_grad(y, x, *case.kernel, *window)])
            if case.stride == (1, 1):
                results[-1].append(torch.ops.caffe_compat.conv_fast_input_grad(y, weight, *case.input[2:], *window))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_layouts_and_strides() -> None:
    case = replace(FAST_CASES[7], bias=True)
    x, weight, bias = single(case)
    assert bias is not None
    expected = run(case, (x, weight, bias), 6)
    strided = torch.cat([x, x], 3)[..., : x.shape[3]]
    crooked = weight.transpose(2, 3).clone().transpose(2, 3)
    for laid_out in (x.contiguous(memory_format=torch.channels_last), strided):
        actual = run(case, (laid_out, crooked, bias.expand(2, -1).t()[:, 0]), 6)
        assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))
    leaf = x.detach().requires_grad_()
    fast_conv(leaf, weight, bias, **case.window().keywords()).sum().backward()  # the grad is an expanded scalar
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("level", ["none", "avx2", "avx512"])
def test_every_vector_set(level: str) -> None:
    """In a process of its own: the choice is made once."""
    script = "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-k', 'twin', sys.argv[1]]))"
    result = subprocess.run(
        [sys.executable, "-c", script, __file__],
        env=os.environ | {"CAFFE_COMPAT_SIMD": level, "PYTEST_ADDOPTS": "", "PYTEST_XDIST_WORKER": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]


def test_operators_are_sound() -> None:
    ops = torch.ops.caffe_compat
    for case in (FAST_CASES[1], FAST_CASES[11], CONV_CASES[5], CONV_CASES[12]):
        x, weight, bias = single(case)
        leaves = [t.requires_grad_() if t is not None else t for t in (x, weight, bias)]
        utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(ops.conv_fast, (*leaves, *case.window(), True, 6), test_utils=utilities)
        y = fast_conv(x, weight, bias, **case.window().keywords()).detach()
        x, weight = x.detach(), weight.detach()
        window = (*case.window(), 6)
        torch.library.opcheck(ops.conv_fast_input_grad, (y, weight, *case.input[2:], *window), test_utils=utilities)
        torch.library.opcheck(ops.conv_fast_weight_grad, (y, x, *case.kernel, *window), test_utils=utilities)


def test_frozen_weight() -> None:
    case = FAST_CASES[0]
    x, weight, bias = single(case)
    x.requires_grad_()
    fast_conv(x, weight, bias, **case.window().keywords(), relu=True).sum().backward()
    assert x.grad is not None
    weight.requires_grad_()
    fast_conv(x.detach(), weight, bias, **case.window().keywords()).sum().backward()
    assert weight.grad is not None


def test_errors() -> None:
    case = FAST_CASES[0]
    x, weight, bias = single(case)
    assert bias is not None
    with pytest.raises(TypeError, match=r"conv_fast: input is Double .*; expected float32"):
        fast_conv(x.double(), weight.double(), bias.double())
    with pytest.raises(ValueError, match="largest_tile is 5; expected one of"):
        fast_conv(x, weight, bias, largest_tile=5)
    with pytest.raises(ValueError, match="conv_fast: weight is Double"):
        fast_conv(x, weight.double(), bias)
    with pytest.raises(ValueError, match="input channels = groups"):
        fast_conv(x, weight, bias, groups=2)
    with pytest.raises(ValueError, match="does not fit"):
        fast_conv(x[..., :2, :2], weight, bias)
    with pytest.raises(ValueError, match="bias is"):
        fast_conv(x, weight, bias[:3])
    leaf = x.requires_grad_()
    (grad,) = torch.autograd.grad(fast_conv(leaf, weight, bias).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="not twice differentiable"):
        grad.sum().backward()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers")
def test_kernels_under_sanitizers(tmp_path: Path) -> None:
    """The kernels alone, with every number outside their buffers guarded."""
    sources = [ROOT / "csrc" / "conv" / f"{name}_{level}.cpp" for name in ("winograd", "row_conv") for level in LEVELS]
    program = tmp_path / "conv_fast"
    main = Path(__file__).parent / "host_simd" / "conv_fast.cpp"
    built = subprocess.run([*BUILD, str(main), *map(str, sources), "-o", str(program)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    result = subprocess.run([str(program)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
