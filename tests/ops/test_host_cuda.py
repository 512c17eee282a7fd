"""The CUDA kernels' own source, run on the host under AddressSanitizer and UBSan (csrc/common/host_cuda.h)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.data.batch_transform import batch_transform_reference
from caffe_compat.ops.conv import _reference as conv_reference
from caffe_compat.ops.lrn import _reference as lrn_reference
from tests.ops.batch_transform_cases import BATCH_TRANSFORM_CASES, BatchTransformCase
from tests.ops.conv_cases import CONV_CASES, NHWC_CASES, NHWC_FLOAT_CASES, ConvCase
from tests.ops.lrn_cases import LRN_CASES, LrnCase

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "host_cuda"
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
# Relative to the largest expected value, as in test_lrn.py and test_conv.py.
TOLERANCES = {"float64": 1e-12, "float32": 5e-6, "bfloat16": 1.6e-2, "float16": 2e-3}
LRN_TYPES = ("float64", "float32", "bfloat16")
TF32_TOLERANCE = 2e-3  # numbers rounded to 10 bits
CONV_MATH = ["fma", "tf32", "split_tf32"]  # in the order of ConvMath

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers"),
]

Case = tuple[dict[str, Any], dict[str, np.ndarray]]  # a call and its arrays, see run_cases.py


def random(shape: tuple[int, ...], seed: int, dtype: str) -> Tensor:
    """Normal numbers, rounded to ``dtype``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))


def raw(tensor: Tensor) -> np.ndarray:
    """The elements in (N, C, H, W) order, as bytes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def make_case(
    function: str, name: str, dtype: str, arguments: list[Any], inputs: dict[str, np.ndarray], expected: Tensor
) -> Case:
    """One call of a kernel; ``expected`` is in float64."""
    call = {
        "function": f"{function}_{dtype}",
        "dtype": dtype,
        "bytes": getattr(torch, dtype).itemsize,
        "name": f"{function} {dtype} {name}",
        "arguments": arguments,
        "tolerance": TOLERANCES[dtype],
    }
    return call, inputs | {"out": expected.contiguous().reshape(-1).numpy()}


def lrn_calls(
    case: LrnCase, dtype: str, channels_last: bool, batch: int | None = None, most: int = 0
) -> Iterator[Case]:
    """Forward and backward of one case.

    ``batch``: its images are the last ones of so many; ``most``: elements that a block may touch, 0 for the default.
    """
    x, dy = random(case.shape, 1, dtype), random(case.shape, 2, dtype)
    leaf = x.double().requires_grad_()
    y = lrn_reference(leaf, *case.arguments())
    (dx,) = torch.autograd.grad(y, leaf, dy.double())
    x, dy, y, dx = (t.detach().permute(0, 2, 3, 1) if channels_last else t.detach() for t in (x, dy, y, dx))
    tail = [batch or case.shape[0], *case.shape[1:], channels_last, *case.arguments()[:4]]
    tail += [case.norm_region == "WITHIN_CHANNEL", case.shape[0], most]
    name = f"{case} {'NHWC' if channels_last else 'NCHW'}"
    arrays = {"x": raw(x), "dy": raw(dy)}
    yield make_case("lrn", f"{name} forward", dtype, ["$x", None, "$out", *tail], arrays, y)
    yield make_case("lrn", f"{name} backward", dtype, ["$x", "$dy", "$out", *tail], arrays, dx)


def conv_calls(case: ConvCase, dtype: str, math: str, channels_last: bool = False) -> Iterator[Case]:
    """Output, output with ReLU, input gradient and weight gradient of one case."""
    x, weight, bias = (random(shape, 1, dtype) for shape in (case.input, case.weight, (case.outputs,)))
    leaves = [x.double().requires_grad_(), weight.double().requires_grad_()]
    y = conv_reference(*leaves, bias.double() if case.bias else None, *case.window())
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
        call, all_arrays = make_case("conv", name, dtype, arguments, arrays, expected)
        if math == "tf32" and dtype == "float32":
            call["tolerance"] = TF32_TOLERANCE
        yield call, all_arrays


def batch_transform_calls(case: BatchTransformCase) -> Iterator[Case]:
    """The case, and the same with windows that leave the images: the kernel moves them inside."""
    images, windows, mean = case.tensors()
    expected = batch_transform_reference(images, windows, mean, case.scale, case.size).double()
    spare = torch.tensor([case.images[2] - case.size[0], case.images[3] - case.size[1]])
    at_border = (windows[:, :2] == 0).int() * -5 + (windows[:, :2] == spare).int() * 5
    outside = torch.cat([windows[:, :2] + at_border, windows[:, 2:]], 1)
    arguments = ["$images", "$windows", "$mean" if mean is not None else None, case.mean == "image", "$out"]
    arguments += [*case.images, *case.size, case.scale]
    for what, places in (("inside", windows), ("outside", outside)):
        arrays = {"images": images.numpy(), "windows": places.numpy()}
        if mean is not None:
            arrays["mean"] = mean.numpy()
        call, all_arrays = make_case("batch_transform", f"{case} {what}", "float32", arguments, arrays, expected)
        call["tolerance"] = 0  # the same bits
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
        arguments = ["$sizes", "$pixels", len(pixels), 2, 0, False, "$out"]
        yield index_case("conv_offsets", f"stride {stride}", arguments, {"sizes": array, "pixels": pixels}, offsets)

        spots = np.stack([(n * 4096 + 4096 // groups * (groups - 1)) * 31 * 32, row - 2, column], axis=1)
        arguments = ["$sizes", "$pixels", len(pixels), groups - 1, "$out"]
        yield index_case("conv_spots", f"stride {stride}", arguments, {"sizes": array, "pixels": pixels}, spots)

        # The kernel of the input gradient is turned around: tap (2, 0) there is (0, 2) of the convolution.
        count = sizes["batch"] * 31 * 32
        pixels = np.append(generator.integers(0, count, 500), [0, count - 1])
        n, rest = np.divmod(pixels, 31 * 32)
        down, across = rest // 32 + 1 - 0, rest % 32 + 1 - 2
        row, column = down // stride, across // stride
        inside = (down % stride == 0) & (across % stride == 0) & (across >= 0) & (row < out[0]) & (column < out[1])
        offsets = np.where(inside, ((n * out[0] + row) * out[1] + column) * 512, -1)
        arguments = ["$sizes", "$pixels", len(pixels), 2, 0, True, "$out"]
        yield index_case("conv_offsets", f"grad {stride}", arguments, {"sizes": array, "pixels": pixels}, offsets)

    most = 2**31 - 1
    divisors = np.concatenate([generator.integers(1, most, 2000), 2 ** generator.integers(0, 31, 500), [1, most, 3, 2]])
    numbers = np.concatenate([generator.integers(0, most, 2500), [most, most, most, most]])
    numbers[:500] = np.minimum(numbers[:500] // divisors[:500] * divisors[:500] + divisors[:500] - 1, most)
    expected = np.stack(np.divmod(numbers, divisors), axis=1)
    arrays = {"numbers": numbers, "divisors": divisors}
    yield index_case("divide", "", ["$numbers", "$divisors", len(numbers), "$out"], arrays, expected)


def index_case(
    function: str, name: str, arguments: list[Any], arrays: dict[str, np.ndarray], expected: np.ndarray
) -> Case:
    """A call whose results are whole numbers, compared exactly."""
    call, all_arrays = make_case(
        function, name, "float64", arguments, arrays, torch.from_numpy(expected.astype(np.float64))
    )
    return call | {"tolerance": 0.0}, all_arrays


def build(source: str, folder: Path) -> Path:
    """The kernels of ``source`` as a shared library."""
    library = folder / f"{source}.so"
    include = [f"-I{path}" for path in (ROOT / "csrc", Path(torch.__file__).parent / "include")]
    command = ["g++", *FLAGS, *SANITIZE, *include, str(FOLDER / f"{source}.cpp"), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return library


def run(library: Path, cases: list[Case], folder: Path) -> None:
    """Run prepared cases in a process of their own and fail with what it prints."""
    arrays: dict[str, Any] = {}
    for i, (call, inputs) in enumerate(cases):
        arrays[f"{i}.call"] = np.array(json.dumps(call))
        arrays |= {f"{i}.{name}": array for name, array in inputs.items()}
    np.savez(folder / "cases.npz", **arrays)
    sanitizer = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    environment = os.environ | {
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, str(FOLDER / "run_cases.py"), str(library), str(folder / "cases.npz")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]


@pytest.fixture(scope="module")
def lrn_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("lrn", tmp_path_factory.mktemp("lrn"))


def test_lrn(lrn_library: Path, tmp_path: Path) -> None:
    cases = [
        call
        for case in LRN_CASES
        for channels_last in (False, True)
        for dtype in LRN_TYPES
        for call in lrn_calls(case, dtype, channels_last)
    ]
    run(lrn_library, cases, tmp_path)


def test_lrn_in_small_tiles(lrn_library: Path, tmp_path: Path) -> None:
    """Many tiles with neighbours at all sides, and windows that are too large for any tile."""
    cases = [LrnCase((2, 70, 2, 3), local_size=7), LrnCase((1, 5, 9, 10), local_size=3, norm_region="WITHIN_CHANNEL")]
    cases += [LrnCase((1, 6, 4, 5), local_size=9, beta=0.6), LrnCase((2, 3, 9, 7), norm_region="WITHIN_CHANNEL")]
    calls = [
        call
        for case in cases
        for channels_last in (False, True)
        for dtype in ("float64", "float32")
        for call in lrn_calls(case, dtype, channels_last, most=20)
    ]
    run(lrn_library, calls, tmp_path)


def test_lrn_offsets_beyond_2_to_32(lrn_library: Path, tmp_path: Path) -> None:
    cases = [LrnCase((1, 8, 3, 4)), LrnCase((1, 9, 3, 3)), LrnCase((1, 9, 3, 3), local_size=7)]
    cases += [LrnCase((1, 4, 6, 5), local_size=3, norm_region="WITHIN_CHANNEL")]
    calls = [
        call
        for case in cases
        for channels_last in (False, True)
        for call in lrn_calls(case, "bfloat16", channels_last, batch=2**33 // np.prod(case.shape).item())
    ]
    run(lrn_library, calls, tmp_path)


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


def test_batch_transform(tmp_path: Path) -> None:
    calls = [call for case in BATCH_TRANSFORM_CASES for call in batch_transform_calls(case)]
    run(build("batch_transform", tmp_path), calls, tmp_path)
