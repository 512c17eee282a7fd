"""The CUDA kernels of max pooling, run on the host under sanitizers (tests/host_cuda).

The harness also fails where the fused kernels and the kernels one by one do not give the same bits.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.ops.lrn import reference as lrn_reference
from tests.ops.host_kernels import TOLERANCES, Case, build, host_marks, random, raw, run
from tests.ops.pool_cases import POOL_CASES, PoolCase

pytestmark = host_marks("pool")

DTYPES = TOLERANCES
OUTPUT, POOLED, TAPS, GRADIENT = range(4)  # what a call returns, see host_cuda/pool.cpp
NO_TAP = 255
ALPHA, K = 0.3, 2.0

# Tiles, walks and channel blocks that the common cases do not reach.
MORE_CASES = [
    PoolCase((1, 30, 40, 70), (20, 35), relu=True),  # several tiles in both directions
    PoolCase((2, 4, 3, 150), (1, 75), relu=True, padding=(0, 1)),  # rows longer than a tile
    PoolCase((1, 300, 5, 5), (2, 2), relu=True),  # several blocks of channels, 16-byte packs
    PoolCase((1, 131, 5, 4), (2, 2)),  # several blocks of channels, no packs
    PoolCase((1, 40, 9, 9), (9, 9), kernel=(5, 5), stride=(1, 1), padding=(2, 2), relu=True),
    PoolCase((1, 3, 5, 260), (1, 16), kernel=(5, 5), stride=(1, 1), relu=True),  # windows dropped at the end
]


def choose(x: Tensor, case: PoolCase) -> tuple[Tensor, Tensor]:
    """Maximum and winning tap of each window, tap by tap, by the letter of csrc/pool/pool.h."""
    n, c, h, w = x.shape
    value = x.new_full((n, c, *case.out_size), 0.0 if case.relu else -torch.inf)
    tap = torch.full(value.shape, NO_TAP if case.relu else -1)
    for i in range(case.out_size[0]):
        for j in range(case.out_size[1]):
            for number in range(case.kernel[0] * case.kernel[1]):
                row = i * case.stride[0] - case.padding[0] + number // case.kernel[1]
                column = j * case.stride[1] - case.padding[1] + number % case.kernel[1]
                if not (0 <= row < h and 0 <= column < w):
                    continue
                candidate = x[:, :, row, column]
                wins = (candidate > value[:, :, i, j]) | candidate.isnan() | (tap[:, :, i, j] == -1)
                value[:, :, i, j] = torch.where(wins, candidate, value[:, :, i, j])
                tap[:, :, i, j] = torch.where(wins, number, tap[:, :, i, j])
    return value, tap


def scatter(grad: Tensor, tap: Tensor, case: PoolCase) -> Tensor:
    """Each window's gradient, added to the pixel that it chose."""
    dx = torch.zeros(case.input, dtype=torch.float64)
    images, channels = (torch.arange(size) for size in case.input[:2])
    for i in range(case.out_size[0]):
        for j in range(case.out_size[1]):
            chosen = tap[:, :, i, j]
            row = i * case.stride[0] - case.padding[0] + chosen // case.kernel[1]
            column = j * case.stride[1] - case.padding[1] + chosen % case.kernel[1]
            lost = chosen == NO_TAP
            row, column = row.masked_fill(lost, 0), column.masked_fill(lost, 0)
            add = grad[:, :, i, j].masked_fill(lost, 0)
            dx.index_put_((images[:, None], channels[None], row, column), add, accumulate=True)
    return dx


def pool_calls(
    case: PoolCase, dtype: str, channels_last: bool, fused: bool, *, x: Tensor | None = None, batch: int | None = None
) -> Iterator[Case]:
    """Pooled values, taps and gradient of one case, with LRN behind the pooling where ``fused``.

    ``batch``: the case's images are the last ones of so many.
    """
    x = random(case.input, 1, dtype) if x is None else x
    pooled, tap = choose(x.double(), case)
    pooled.requires_grad_()
    y = lrn_reference(pooled, case.local_size, ALPHA, case.beta, K) if fused else pooled
    dy = random(tuple(y.shape), 2, dtype)
    (grad,) = torch.autograd.grad(y, pooled, dy.double()) if fused else (dy.double(),)
    y, pooled = y.detach(), pooled.detach()
    dx = scatter(grad, tap, case)
    stored = pooled.to(getattr(torch, dtype))
    tensors: tuple[Tensor, ...] = (x, dy, stored, tap.to(torch.uint8), y, pooled, tap.double(), dx)
    if channels_last:
        tensors = tuple(t.permute(0, 2, 3, 1) for t in tensors)
    x, dy, stored, taps, *expected = tensors
    sizes = [batch or case.input[0], *case.input[1:], *case.out_size, *case.kernel, *case.stride, *case.padding]
    arrays = {"x": raw(x), "dy": raw(dy), "pooled": raw(stored), "tap": raw(taps)}
    arrays["sizes"] = np.array([*sizes, channels_last])
    lrn: list[Any] = [case.local_size if fused else 0, ALPHA, case.beta, K]
    for what, result in enumerate(expected):
        if what == OUTPUT and not fused:
            continue
        call = {
            "function": f"pool_{dtype}",
            "dtype": dtype,
            "bytes": getattr(torch, dtype).itemsize,
            "name": f"{case} {dtype} {'NHWC' if channels_last else 'NCHW'} {'fused' if fused else ''} {what}",
            "arguments": [what, "$x", "$dy", "$pooled", "$tap", "$out", "$sizes", case.input[0], case.relu, *lrn],
            # Maxima and taps are exact.
            "tolerance": 0.0 if what in (POOLED, TAPS) else DTYPES[dtype],
        }
        yield call, arrays | {"out": result.contiguous().reshape(-1).numpy()}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("pool", tmp_path_factory.mktemp("pool"))


@pytest.mark.parametrize("fused", [False, True], ids=["pool", "relu_pool_lrn"])
def test_pool(fused: bool, library: Path, tmp_path: Path) -> None:
    common = [(case, dtype) for case in POOL_CASES for dtype in DTYPES]
    more = [(case, dtype) for case in MORE_CASES for dtype in ("float32", "float16")]
    calls = [
        call
        for case, dtype in common + more
        for channels_last in (False, True)
        for call in pool_calls(case, dtype, channels_last, fused)
    ]
    run(library, calls, tmp_path)


@pytest.mark.parametrize("relu", [False, True])
def test_ties_and_what_is_not_positive(relu: bool, library: Path, tmp_path: Path) -> None:
    case = PoolCase((2, 16, 9, 10), (5, 5), relu=relu, padding=(1, 0))
    few = torch.randint(-2, 2, case.input, generator=torch.Generator().manual_seed(3)).float()
    calls = [
        call
        for x in (few, torch.full(case.input, -1.0), torch.zeros(case.input), -torch.zeros(case.input))
        for channels_last in (False, True)
        for call in pool_calls(case, "float32", channels_last, False, x=x)
    ]
    run(library, calls, tmp_path)


@pytest.mark.parametrize("relu", [False, True])
def test_nan_is_passed_on(relu: bool, library: Path, tmp_path: Path) -> None:
    """By the taps, which are numbers: the last NaN of a window wins, as in PyTorch."""
    case = PoolCase((1, 8, 9, 9), (4, 4), relu=relu)
    x = random(case.input, 1, "float32")
    x[:, ::2, 2:5, 3:6] = torch.nan
    calls = [call for last in (False, True) for call in pool_calls(case, "float32", last, False, x=x)]
    run(library, [call for call in calls if call[0]["arguments"][0] in (TAPS, GRADIENT)], tmp_path)


@pytest.mark.parametrize("fused", [False, True], ids=["pool", "relu_pool_lrn"])
def test_offsets_beyond_2_to_32(fused: bool, library: Path, tmp_path: Path) -> None:
    cases = [PoolCase((1, 16, 7, 7), (3, 3), relu=True), PoolCase((1, 15, 7, 6), (3, 2), (2, 3), relu=True, beta=0.6)]
    calls = [
        call
        for case in cases
        for channels_last in (False, True)
        for call in pool_calls(case, "float16", channels_last, fused, batch=2**33 // np.prod(case.input).item())
    ]
    run(library, calls, tmp_path)
