"""The CUDA kernels of LRN, run on the host."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.ops.lrn import reference as lrn_reference
from tests.ops.host_kernels import Case, build, host_marks, make_case, random, raw, run
from tests.ops.lrn_cases import LRN_CASES, LrnCase

pytestmark = host_marks("lrn")

LRN_TYPES = ("float64", "float32", "bfloat16")


def lrn_calls(
    case: LrnCase, dtype: str, channels_last: bool, batch: int | None = None, most: int = 0
) -> Iterator[Case]:
    """Forward and backward of one case.

    ``batch``: its images are the last ones of so many; ``most``: elements that a block may touch, 0 for the default.
    """
    x, dy = random(case.shape, 1, dtype), random(case.shape, 2, dtype)
    leaf = x.double().requires_grad_()
    y = lrn_reference(leaf, *case.window(), norm_region=case.norm_region)
    (dx,) = torch.autograd.grad(y, leaf, dy.double())
    x, dy, y, dx = (t.detach().permute(0, 2, 3, 1) if channels_last else t.detach() for t in (x, dy, y, dx))
    tail = [batch or case.shape[0], *case.shape[1:], channels_last, *case.window()]
    tail += [case.norm_region == "WITHIN_CHANNEL", case.shape[0], most]
    name = f"{case} {'NHWC' if channels_last else 'NCHW'}"
    arrays = {"x": raw(x), "dy": raw(dy)}
    yield make_case("lrn", f"{name} forward", dtype, ["$x", None, "$out", *tail], inputs=arrays, expected=y)
    yield make_case("lrn", f"{name} backward", dtype, ["$x", "$dy", "$out", *tail], inputs=arrays, expected=dx)


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
