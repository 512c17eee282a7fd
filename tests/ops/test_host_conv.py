"""The CUDA kernels of convolution, run on the host."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.ops.conv import reference as conv_reference
from tests.ops.conv_cases import CONV_CASES, NHWC_CASES, NHWC_FLOAT_CASES, ConvCase
from tests.ops.host_kernels import Case, build, host_marks, index_case, make_case, random, raw, run

pytestmark = host_marks("conv")

TF32_TOLERANCE = 2e-3  # numbers rounded to 10 bits
CONV_MATH = ["fma", "tf32", "split_tf32"]  # in the order of ConvMath


def conv_calls(case: ConvCase, dtype: str, math: str, channels_last: bool = False) -> Iterator[Case]:
    """Output, output with ReLU, input gradient and weight gradient of one case."""
    x, weight, bias = (random(shape, 1, dtype) for shape in (case.input, case.weight, (case.outputs,)))
    leaves = [x.double().requires_grad_(), weight.double().requires_grad_()]
    y = conv_reference(leaves[0], leaves[1], bias.double() if case.bias else None, case.window())
    dy = random(tuple(y.shape), 2, dtype)
    dx, dw = torch.autograd.grad(y, leaves, dy.double())
    y = y.detach()
    sizes = [*case.input, *y.shape[1:], *case.kernel, *case.stride, *case.padding, *case.dilation, case.groups]
    # NHWC kernels take weights in either layout; the weight gradient is always contiguous.
    weight_last = channels_last and case.bias
    if channels_last:
        x, dy, y, dx = (t.permute(0, 2, 3, 1) for t in (x, dy, y, dx))
    if weight_last:
        weight = weight.permute(0, 2, 3, 1)
    arrays = {"x": raw(x), "weight": raw(weight), "bias": raw(bias), "dy": raw(dy), "sizes": np.array(sizes)}
    layout = "NHWC" if channels_last else "NCHW"
    results = [("x", "weight", y, 0, False), ("x", "weight", y.relu(), 0, True)]
    results += [("dy", "weight", dx, 1, False), ("dy", "x", dw, 2, False)]
    for first, second, expected, what, relu in results:
        arguments = [what, f"${first}", f"${second}", "$bias" if case.bias else None, "$out", "$sizes"]
        arguments += [CONV_MATH.index(math), relu, channels_last, weight_last]
        name = f"{case} {layout} {math} {what} {'relu' if relu else ''}"
        call, all_arrays = make_case("conv", name, dtype, arguments, inputs=arrays, expected=expected)
        if math == "tf32" and dtype == "float32":
            call["tolerance"] = TF32_TOLERANCE
        yield call, all_arrays


def index_calls() -> Iterator[Case]:
    """Offsets beyond 2^31 elements, and divisions at the ends of their range."""
    generator = np.random.default_rng(1)
    sizes = {"batch": 1 << 21, "channels": 4096, "height": 31, "width": 32}
    for stride, groups in ((1, 2), (2, 1)):
        out = [(size + 2 - 3) // stride + 1 for size in (31, 32)]
        array = np.array([*sizes.values(), 512, *out, 3, 3, stride, stride, 1, 1, 1, 1, groups])
        count = sizes["batch"] * out[0] * out[1]
        pixels = np.append(generator.integers(0, count, 500), [0, count - 1])
        n, rest = np.divmod(pixels, out[0] * out[1])
        row, column = rest // out[1] * stride - 1 + 2, rest % out[1] * stride - 1 + 0  # tap (2, 0), padding 1
        inside = (row >= 0) & (row < 31) & (column >= 0) & (column < 32)
        offsets = np.where(inside, ((n * 31 + row) * 32 + column) * 4096, -1)
        offsets = np.stack([offsets, pixels], axis=1)
        arguments = ["$sizes", "$pixels", len(pixels), 2, 0, False, 0, 0, "$out"]
        yield index_case("conv_offsets", f"stride {stride}", arguments, {"sizes": array, "pixels": pixels}, offsets)

        origins = np.stack([(n * 4096 + 4096 // groups * (groups - 1)) * 31 * 32, row - 2, column], axis=1)
        arguments = ["$sizes", "$pixels", len(pixels), groups - 1, "$out"]
        yield index_case(
            "conv_column_origins", f"stride {stride}", arguments, {"sizes": array, "pixels": pixels}, origins
        )

        # The input gradient is a product for each of the stride's rows and columns; tap (2, 0) is in some of them.
        for first in product(range(stride), repeat=2):
            counts = [-(-(size - at) // stride) for size, at in zip((31, 32), first, strict=True)]
            count = sizes["batch"] * counts[0] * counts[1]
            pixels = np.append(generator.integers(0, count, 500), [0, count - 1])
            n, rest = np.divmod(pixels, counts[0] * counts[1])
            at_row, at_column = rest // counts[1] * stride + first[0], rest % counts[1] * stride + first[1]
            down, across = at_row + 1 - 2, at_column + 1 - 0
            row, column = down // stride, across // stride
            inside = (down >= 0) & (down % stride == 0) & (across % stride == 0) & (row < out[0]) & (column < out[1])
            offsets = np.where(inside, ((n * out[0] + row) * out[1] + column) * 512, -1)
            offsets = np.stack([offsets, (n * 31 + at_row) * 32 + at_column], axis=1)
            arguments = ["$sizes", "$pixels", len(pixels), 2, 0, True, *first, "$out"]
            name = f"grad {stride} {first}"
            yield index_case("conv_offsets", name, arguments, {"sizes": array, "pixels": pixels}, offsets)

    most = 2**31 - 1
    divisors = np.concatenate([generator.integers(1, most, 2000), 2 ** generator.integers(0, 31, 500), [1, most, 3, 2]])
    numbers = np.concatenate([generator.integers(0, most, 2500), [most, most, most, most]])
    numbers[:500] = np.minimum(numbers[:500] // divisors[:500] * divisors[:500] + divisors[:500] - 1, most)
    expected = np.stack(np.divmod(numbers, divisors), axis=1)
    arrays = {"numbers": numbers, "divisors": divisors}
    yield index_case("divide", "", ["$numbers", "$divisors", len(numbers), "$out"], arrays, expected)


@pytest.fixture(scope="module")
def conv_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("conv", tmp_path_factory.mktemp("conv"))


def test_conv(conv_library: Path, tmp_path: Path) -> None:
    # Fibers pay for each tensor-core product of a warp: those run on the cases that differ in their tiles.
    tiled = [case for case in CONV_CASES if case.outputs > 60 or case.groups == 2 or case.input[0] == 0]
    kinds = [("float64", "fma", CONV_CASES), ("float32", "fma", CONV_CASES), ("float32", "tf32", tiled)]
    kinds += [("float32", "split_tf32", tiled), ("bfloat16", "tf32", tiled)]
    calls = [call for dtype, math, cases in kinds for case in cases for call in conv_calls(case, dtype, math)]
    run(conv_library, calls, tmp_path)


def test_channels_last_conv(conv_library: Path, tmp_path: Path) -> None:
    kinds = [("bfloat16", "tf32", NHWC_CASES), ("float16", "tf32", NHWC_CASES[-3:])]
    kinds += [("float32", math, [*NHWC_CASES, *NHWC_FLOAT_CASES]) for math in ("tf32", "split_tf32")]
    calls = [call for dtype, math, cases in kinds for case in cases for call in conv_calls(case, dtype, math, True)]
    run(conv_library, calls, tmp_path)


def test_conv_index_arithmetic(conv_library: Path, tmp_path: Path) -> None:
    run(conv_library, list(index_calls()), tmp_path)
