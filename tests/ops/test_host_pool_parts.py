"""The CUDA kernels of pool_parts, run on the host under sanitizers (tests/host_cuda)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.ops.parts import split
from caffe_compat.ops.pool_parts import backward_reference, reference
from tests.ops.host_kernels import TOLERANCES, Case, build, host_marks, random, raw, run
from tests.ops.pool_cases import PoolCase
from tests.ops.pool_parts_cases import POOL_PARTS_CASES, PoolPartsCase
from tests.ops.test_host_parts import in_memory

pytestmark = host_marks("pool_parts")

DTYPES = ("float32", "float16", "bfloat16")
OUTPUT, POOLED, TAPS, INPUT_GRAD = range(4)  # what a call returns, see host_cuda/pool_parts.cpp
ALPHA, K = 0.3, 2.0


def pool_parts_calls(
    case: PoolPartsCase, dtype: str, *, lrn: bool, bias: str | None = None, x: Tensor | None = None
) -> Iterator[Case]:
    """Output, pooled values, taps and both gradients of one case; ``bias``: its dtype."""
    pool = case.pool
    channels = pool.input[1]
    x = random(pool.input, 1, dtype) if x is None else x
    added = None if bias is None else random((channels,), 3, bias)
    norm = (5 if lrn else 0, ALPHA, pool.beta, K)
    # Pooled values and taps as the dtype has them, LRN and gradients in float64.
    (pooled,), _, tap = reference([x], added, *pool.window(), pool.relu, 0, *norm[1:], 1)
    output = reference([pooled.double()], None, (1, 1), (1, 1), (0, 0), pool.out_size, False, *norm, case.groups)[0]
    dy = random(tuple(pooled.shape), 2, dtype)
    input_grad, bias_grad = backward_reference(
        [dy.double()], pooled.double(), tap, *pool.input[2:], *pool.window()[:3], *norm, case.parts
    )
    sizes = [*pool.input, *pool.out_size, *pool.kernel, *pool.stride, *pool.padding, case.parts, case.groups]
    arrays = {
        "x": raw(in_memory(split(x, case.parts))),
        "dy": raw(in_memory(split(dy, case.groups))),
        "pooled": raw(in_memory([pooled])),
        "tap": raw(in_memory([tap])),
        "sizes": np.array(sizes),
    }
    narrow, wide = ("$narrow" if bias == dtype else None), ("$wide" if bias not in (dtype, None) else None)
    if added is not None:
        arrays["narrow" if narrow else "wide"] = raw(added)
    expected = {OUTPUT: in_memory(output), TAPS: in_memory([tap]).double(), INPUT_GRAD: in_memory(input_grad)}
    if lrn:
        expected[POOLED] = in_memory([pooled]).double()
    about = f"{case} {dtype} bias {bias} {'LRN' if lrn else ''}"
    for what, result in expected.items():
        arguments: list[Any] = [what, "$x", "$dy", "$pooled", "$tap", narrow, wide, "$out", "$sizes", pool.relu, *norm]
        call = {
            "function": f"pool_parts_{dtype}",
            "dtype": dtype,
            "bytes": getattr(torch, dtype).itemsize,
            "name": f"{about} {what}",
            "arguments": arguments,
            "tolerance": TOLERANCES[dtype] if what == INPUT_GRAD or (what == OUTPUT and lrn) else 0.0,
        }
        yield call, arrays | {"out": result.numpy()}
    call = {
        "function": f"pool_sums_{dtype}_float32",
        "dtype": "float32",
        "bytes": 4,
        "name": f"{about} sums",
        "arguments": ["$dy", "$pooled", "$tap", "$out", "$sizes", *norm],
        "tolerance": TOLERANCES["float32"],
    }
    yield call, arrays | {"out": bias_grad.numpy()}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("pool_parts", tmp_path_factory.mktemp("pool_parts"))


@pytest.mark.parametrize("lrn", [False, True], ids=["pool", "pool_lrn"])
def test_pool_parts(lrn: bool, library: Path, tmp_path: Path) -> None:
    calls = [
        call
        for case in POOL_PARTS_CASES
        for dtype in DTYPES
        for bias in (dtype, "float32")
        for call in pool_parts_calls(case, dtype, lrn=lrn, bias=bias)
    ]
    run(library, calls, tmp_path)


@pytest.mark.parametrize("relu", [False, True])
def test_without_bias(relu: bool, library: Path, tmp_path: Path) -> None:
    cases = [replace(case, pool=replace(case.pool, relu=relu)) for case in POOL_PARTS_CASES[:8]]
    calls = [call for case in cases for call in pool_parts_calls(case, "bfloat16", lrn=True)]
    run(library, calls, tmp_path)


@pytest.mark.parametrize("bias", [None, "float32"])
@pytest.mark.parametrize("relu", [False, True])
def test_ties_and_what_is_not_positive(relu: bool, bias: str | None, library: Path, tmp_path: Path) -> None:
    case = PoolPartsCase(PoolCase((2, 16, 9, 10), (5, 5), relu=relu, padding=(1, 0)), 2, 1)
    few = torch.randint(-2, 2, case.pool.input, generator=torch.Generator().manual_seed(3)).float()
    calls = [
        call
        for x in (few, torch.full_like(few, -1.0), torch.zeros_like(few), -torch.zeros_like(few))
        for call in pool_parts_calls(case, "float32", lrn=False, bias=bias, x=x)
    ]
    run(library, calls, tmp_path)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize("bias", [None, "float32"])
@pytest.mark.parametrize("relu", [False, True])
def test_nan_and_infinity(relu: bool, bias: str | None, value: float, library: Path, tmp_path: Path) -> None:
    """By the taps, which are numbers: the last NaN of a window wins; of nothing but -infinity the first."""
    case = PoolPartsCase(PoolCase((1, 16, 9, 9), (4, 4), relu=relu), 1, 2)
    x = random(case.pool.input, 1, "float32")
    x[:, ::2, 2:7, 3:8] = value
    calls = list(pool_parts_calls(case, "float32", lrn=False, bias=bias, x=x))
    run(library, [call for call in calls if call[0]["arguments"][0] in (TAPS, INPUT_GRAD)], tmp_path)
