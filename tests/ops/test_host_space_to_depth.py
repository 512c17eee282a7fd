"""The CUDA kernel of space_to_depth, run on the host under sanitizers (tests/host_cuda)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from caffe_compat.ops.space_to_depth import reference
from tests.ops.host_kernels import Case, build, host_marks, make_case, random, run
from tests.ops.space_to_depth_cases import SPACE_TO_DEPTH_CASES, SpaceToDepthCase

pytestmark = host_marks("space_to_depth")

PAIRS = [("float32", "float32"), ("float32", "bfloat16"), ("float16", "float16"), ("bfloat16", "float32")]
ORDERS = [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)]  # of the axes in memory: contiguous, channels_last, any


def space_to_depth_calls(case: SpaceToDepthCase, of: str, to: str) -> Iterator[Case]:
    x = random(case.input, 1, of)
    expected = reference(x, case.block, case.padding, case.out_size, getattr(torch, to))
    for order in ORDERS:
        stored = x.permute(order).contiguous()
        strides = stored.permute(np.argsort(order).tolist()).stride()
        sizes = [*case.input, *strides, x.numel(), *case.out_size, expected.shape[1], case.block, *case.padding]
        arrays = {"input": stored.reshape(-1).view(torch.uint8).numpy(), "sizes": np.array(sizes)}
        call, all_arrays = make_case(
            f"from_{of}",
            f"{case} {order}",
            to,
            ["$input", "$out", "$sizes"],
            inputs=arrays,
            expected=expected.permute(0, 2, 3, 1).double(),
        )
        yield call | {"tolerance": 0.0}, all_arrays


def test_space_to_depth(tmp_path: Path) -> None:
    calls = [call for case in SPACE_TO_DEPTH_CASES for of, to in PAIRS for call in space_to_depth_calls(case, of, to)]
    run(build("space_to_depth", tmp_path), calls, tmp_path)
