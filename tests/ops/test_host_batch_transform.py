"""The CUDA kernels of batch_transform, run on the host."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from caffe_compat.ops.batch_transform import reference
from tests.ops.batch_transform_cases import BATCH_TRANSFORM_CASES, BatchTransformCase
from tests.ops.host_kernels import Case, build, host_marks, make_case, run

pytestmark = host_marks("batch_transform")


def batch_transform_calls(case: BatchTransformCase) -> Iterator[Case]:
    """The case, and the same with windows that leave the images: the kernel moves them inside."""
    images, windows, mean = case.tensors()
    expected = reference(images, windows, mean, case.scale, case.size).double()
    spare = torch.tensor([case.images[2] - case.size[0], case.images[3] - case.size[1]])
    at_border = (windows[:, :2] == 0).int() * -5 + (windows[:, :2] == spare).int() * 5
    outside = torch.cat([windows[:, :2] + at_border, windows[:, 2:]], 1)
    arguments: list[Any] = ["$images", "$windows", "$mean" if mean is not None else None, case.mean == "image", "$out"]
    arguments += [*case.images, *case.size, case.scale]
    for what, places in (("inside", windows), ("outside", outside)):
        arrays = {"images": images.numpy(), "windows": places.numpy()}
        if mean is not None:
            arrays["mean"] = mean.numpy()
        call, all_arrays = make_case(
            "batch_transform", f"{case} {what}", "float32", arguments, inputs=arrays, expected=expected
        )
        call["tolerance"] = 0  # the same bits
        yield call, all_arrays


def test_batch_transform(tmp_path: Path) -> None:
    calls = [call for case in BATCH_TRANSFORM_CASES for call in batch_transform_calls(case)]
    run(build("batch_transform", tmp_path), calls, tmp_path)
