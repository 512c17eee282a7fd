"""The CUDA kernel of solver_update_, run on the host under sanitizers (tests/host_cuda)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.ops.solver_update import UpdateTensors, solver_update_
from tests.ops.host_kernels import Case, build, host_marks, make_case, random, raw, run

pytestmark = host_marks("solver_update")

RULES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")  # in the order of solver_update.h
SECOND = ("AdaDelta", "Adam")
#: whole vectors and a rest; more than one block's elements, which begin where no vector does
LENGTHS = [(8, 5), (4099, 4096)]


def update_calls(rule: str, dtype: str) -> Iterator[Case]:
    """The CPU's operator has the same results to the last bit."""
    for lengths in LENGTHS:
        total = sum(lengths)
        values = random((4, total), 1, dtype).abs()
        weight, gradient, first, second = (value.clone() for value in values)
        copy = torch.zeros(total, dtype=torch.bfloat16)
        tensors = UpdateTensors([weight], [gradient], [first], [second] if rule in SECOND else [])
        tensors.rates, tensors.lr_mults, tensors.decays = [torch.tensor(0.1, dtype=torch.float64)], [2.0], [0.01]
        tensors.copies = [copy]
        clip = torch.tensor(0.5, dtype=values.dtype)
        solver_update_(
            rule, tensors, clip=clip, gradient_scale=0.25, momentum=0.9, momentum2=0.99, delta=1e-3, keep_update=True
        )
        number = RULES.index(rule)
        for keep, expected in ((False, weight), (True, gradient)):
            call, arrays = make_case(
                "update",
                f"{rule} {lengths} {keep}",
                dtype,
                [number, "$values", "$sizes", keep, "$out"],
                inputs={"values": raw(values), "sizes": np.array([*lengths, 0, 1])},
                expected=expected.double(),
            )
            yield call | {"tolerance": 0.0}, arrays
        for shift, of_first in ((0, True), (1, False)):
            call, arrays = make_case(
                f"copy_{dtype}",
                f"{rule} {lengths} copy {of_first}",
                "bfloat16",
                [number, "$values", "$sizes", "$out"],
                inputs={"values": raw(values), "sizes": np.array([*lengths, shift, of_first])},
                expected=(copy[: lengths[0]] if of_first else copy[lengths[0] :]).double(),
            )
            yield call | {"tolerance": 0.0}, arrays


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("solver_update", tmp_path_factory.mktemp("solver_update"))


def test_update(library: Path, tmp_path: Path) -> None:
    run(
        library,
        [call for rule in RULES for call in update_calls(rule, "float32")],
        tmp_path,
    )
