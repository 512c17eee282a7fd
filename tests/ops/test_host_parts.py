"""The CUDA kernels of bias_relu_parts, run on the host under sanitizers (tests/host_cuda)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.ops.parts import bias_relu_backward_reference, bias_relu_reference, split
from tests.ops.host_kernels import Case, build, host_marks, make_case, random, raw, run
from tests.ops.parts_cases import PARTS_CASES, PartsCase

pytestmark = host_marks("parts")

DTYPES = ("float32", "float16", "bfloat16")
OUTPUT, INPUT_GRAD = range(2)  # what a call returns, see host_cuda/parts.cpp


def in_memory(parts: list[Tensor]) -> Tensor:
    """The elements of channels_last parts, one part behind the other."""
    return torch.cat([part.permute(0, 2, 3, 1).flatten() for part in parts])


def parts_calls(case: PartsCase, dtype: str, relu: bool) -> Iterator[Case]:
    n, c, h, w = case.whole
    x, y = random(case.whole, 1, dtype), random(case.whole, 2, dtype)
    sizes = {"sizes": np.array([n * h * w, c, case.parts, case.groups])}
    inputs = {"x": raw(in_memory(split(x, case.parts))), "y": raw(in_memory(split(y, case.parts)))} | sizes
    biases: list[tuple[Any, Any, Tensor | None]] = [(None, None, None)]
    biases += [("$narrow", None, random((c,), 3, dtype)), (None, "$wide", random((c,), 3, "float32"))]
    for narrow, wide, bias in biases:
        expected = in_memory(bias_relu_reference([x], bias, relu, case.groups))
        arrays = inputs | ({} if bias is None else {"narrow" if narrow else "wide": raw(bias)})
        arguments = [OUTPUT, "$x", "$y", narrow, wide, "$out", "$sizes", relu, 1.0]
        name = f"{case} {relu} {narrow} {wide}"
        call, all_arrays = make_case("parts", name, dtype, arguments, inputs=arrays, expected=expected.double())
        yield call | {"tolerance": 0.0}, all_arrays
    scale = 1.0 if case.groups == 1 else 1.25
    input_grad, _ = bias_relu_backward_reference([x], [y], relu, case.groups, scale)
    arguments = [INPUT_GRAD, "$x", "$y", None, None, "$out", "$sizes", relu, scale]
    name = f"{case} {relu} gradient"
    expected = in_memory(input_grad).double()
    call, all_arrays = make_case("parts", name, dtype, arguments, inputs=inputs, expected=expected)
    yield call | {"tolerance": 0.0}, all_arrays
    _, bias_grad = bias_relu_backward_reference([x.double()], [y], relu, case.groups, scale)
    arguments = ["$x", "$y", "$out", "$sizes", relu, scale]
    yield make_case(f"sums_{dtype}", f"{case} {relu}", "float32", arguments, inputs=inputs, expected=bias_grad)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("parts", tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize("relu", [False, True])
def test_bias_relu_parts(relu: bool, library: Path, tmp_path: Path) -> None:
    run(
        library, [call for case in PARTS_CASES for dtype in DTYPES for call in parts_calls(case, dtype, relu)], tmp_path
    )
