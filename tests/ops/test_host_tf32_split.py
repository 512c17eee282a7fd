"""The CUDA kernel of tf32_split, run on the host under sanitizers (tests/host_cuda)."""

from collections.abc import Iterator
from pathlib import Path

import torch

from caffe_compat.ops.tf32_split import FIRST, SECOND, reference
from tests.ops.host_kernels import Case, build, host_marks, make_case, random, raw, run

pytestmark = host_marks("tf32_split")

SHAPES = [(2, 8, 3, 5), (3, 7, 1, 2), (1, 1, 1, 1), (4, 12, 9, 9)]


def tf32_split_calls() -> Iterator[Case]:
    for shape in SHAPES:
        x = random(shape, 1, "float32")
        for order in (FIRST, SECOND):
            for axis, groups in ((0, 1), (1, 1), *[(axis, 2) for axis in (0, 1) if shape[axis] % 2 == 0]):
                rows = groups if axis == 0 else x.numel() // shape[1] * groups
                low = sum(1 << i for i, letter in enumerate(order) if letter == "l")
                call, arrays = make_case(
                    "tf32_split",
                    f"{shape} {order} axis {axis} groups {groups}",
                    "float32",
                    ["$input", "$out", rows, x.numel() // rows, low],
                    inputs={"input": raw(x.permute(0, 2, 3, 1))},
                    expected=reference(x, order, axis, groups).permute(0, 2, 3, 1).double(),
                )
                yield call | {"tolerance": 0.0}, arrays


def test_tf32_split(tmp_path: Path) -> None:
    run(build("tf32_split", tmp_path), list(tf32_split_calls()), tmp_path)


def test_it_is_the_operator() -> None:
    x = random((2, 8, 3, 5), 1, "float32")
    operator = torch.ops.caffe_compat.tf32_split
    torch.library.opcheck(operator, (x, FIRST, 1, 2))
    torch.library.opcheck(operator, (x, SECOND, 0, 1))
