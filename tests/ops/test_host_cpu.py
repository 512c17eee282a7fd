"""The CPU kernels of LRN and max pooling under sanitizers, on the cases of their CUDA twins."""

from pathlib import Path

import pytest

from tests.ops.host_kernels import build, host_marks, run
from tests.ops.lrn_cases import LRN_CASES
from tests.ops.pool_cases import POOL_CASES
from tests.ops.test_host_lrn import lrn_calls
from tests.ops.test_host_pool import MORE_CASES, pool_calls

pytestmark = host_marks("cpu")

KERNELS = ("lrn/lrn_cpu.cpp", "pool/pool_cpu.cpp")
DTYPES = ("float32", "float64")
LAYOUTS = (False, True)  # channels last?


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("lrn_pool", tmp_path_factory.mktemp("cpu"), Path(__file__).parent / "host_cpu", KERNELS)


def test_lrn(library: Path, tmp_path: Path) -> None:
    calls = [c for case in LRN_CASES for last in LAYOUTS for dtype in DTYPES for c in lrn_calls(case, dtype, last)]
    run(library, calls, tmp_path)


@pytest.mark.parametrize("fused", [False, True], ids=["pool", "relu_pool_lrn"])
def test_pool(fused: bool, library: Path, tmp_path: Path) -> None:
    cases = [*POOL_CASES, *MORE_CASES]
    calls = [c for case in cases for last in LAYOUTS for d in DTYPES for c in pool_calls(case, d, last, fused)]
    run(library, calls, tmp_path)
