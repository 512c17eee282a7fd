"""The CUDA kernel's own source, run on the host (tests/host_cuda), against the CPU operator."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.cpp_extension import include_paths

from caffe_compat import extension
from caffe_compat.solver import RULES

ROOT = Path(__file__).parents[2]
ROUNDING = 1e-12  # float64; the same formulas
#: more elements than one block takes, one, none, and tensors that start where a pack of two may not
COUNTS = (5000, 1, 0, 257, 4096, 3)
LR_MULTS = (1.0, 2.0, 1.0, 0.0, 0.5, 2.0)
DECAYS = (0.02, 0.0, 0.02, 0.02, 0.1, 0.0)
RATE = 0.1

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("kernels") / "solver_update.so"
    source = Path(__file__).parent / "host_cuda" / "solver_update.cpp"
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests'}", *(f"-I{path}" for path in include_paths("cpu"))]
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-unknown-pragmas"]
    subprocess.run(["g++", *flags, *includes, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def address(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


@pytest.mark.parametrize("clipped", [True, False])
@pytest.mark.parametrize("l1", [True, False])
@pytest.mark.parametrize("rule", [rule.kernel for rule in RULES.values()])
def test_kernel_equals_the_cpu(rule: str, l1: bool, clipped: bool, kernels: ctypes.CDLL) -> None:
    extension.load()
    rng = np.random.default_rng(0)
    weight, gradient = (rng.standard_normal(sum(COUNTS)) for _ in range(2))
    first, second = (rng.uniform(0.1, 1.0, sum(COUNTS)) for _ in range(2))
    clip = np.array(0.7) if clipped else None
    settings = (0.5, l1, 0.9, 0.99, 1e-3, True)

    lists = [[torch.from_numpy(part.copy()) for part in np.split(a, np.cumsum(COUNTS)[:-1])] for a in
             (weight, gradient, first, second)]  # fmt: skip
    two = RULES[rule].history_count == 2
    rates = [torch.tensor(RATE, dtype=torch.float64)] * len(COUNTS)
    clip_tensor = None if clip is None else torch.from_numpy(clip)
    seconds = lists[3] if two else []
    copies = [torch.zeros(count if i % 2 == 0 else 0, dtype=torch.bfloat16) for i, count in enumerate(COUNTS)]
    torch.ops.caffe_compat.solver_update_(
        rule, *lists[:3], seconds, rates, LR_MULTS, DECAYS, clip_tensor, *settings, copies
    )  # fmt: skip
    own = [np.array(values) for values in (LR_MULTS, DECAYS)]
    numbers = [ctypes.c_bool(x) if isinstance(x, bool) else ctypes.c_double(x) for x in settings]
    counts = np.array(COUNTS, np.int64)
    copy = np.zeros(sum(COUNTS), np.uint16)
    given: list[np.ndarray] = [weight, gradient, first, second, copy, counts, *own]
    arrays = [address(a) for a in given]
    getattr(kernels, f"update_{rule}")(*arrays, len(COUNTS), ctypes.c_double(RATE), address(clip), *numbers)
    for ours, theirs in zip((weight, gradient, first, second), lists, strict=True):
        np.testing.assert_allclose(ours, torch.cat(theirs).numpy(), rtol=ROUNDING, atol=ROUNDING)
    for i, part in enumerate(np.split(copy, np.cumsum(COUNTS)[:-1])):
        expected = lists[0][i].to(torch.bfloat16).view(torch.uint16).numpy() if i % 2 == 0 else 0 * part
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("more", ["", " X(Momentum)"])
def test_a_rule_without_traits_does_not_compile(more: str, tmp_path: Path) -> None:
    header = (ROOT / "csrc" / "solver_update" / "solver_update.h").read_text()
    assert header.count("X(Adam)") == 1
    (tmp_path / "rules.cpp").write_text(header.replace("X(Adam)", f"X(Adam){more}").replace("#pragma once", ""))
    includes = [f"-I{path}" for path in include_paths("cpu")]
    command = ["g++", "-std=c++20", "-fsyntax-only", *includes, str(tmp_path / "rules.cpp")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (more == "")
    assert ("incomplete type" in result.stderr) == (more != "")
