"""Runs kernels' own source, CUDA's too, on the host under AddressSanitizer (tests/host_cuda), and UBSan if asked.

A test builds ``host_cuda/<op>.cpp`` with ``build`` and gives ``run`` a list of cases; the calls run in a process of
their own, in which only NumPy is loaded (``host_cuda/run_cases.py``).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "host_cuda"
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas"]
# `make sanitize` has "address,undefined", which takes the compiler twice as long.
SANITIZERS = os.environ.get("SANITIZERS", "address")
SANITIZE = [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
# Relative to the largest expected value, as in test_lrn.py and test_conv.py.
TOLERANCES = {"float64": 1e-12, "float32": 5e-6, "bfloat16": 1.6e-2, "float16": 2e-3}

Case = tuple[dict[str, Any], dict[str, np.ndarray]]  # a call and its arrays, see run_cases.py


def host_marks(operator: str) -> list[pytest.MarkDecorator]:
    """The marks of a module that builds the kernels of ``operator``: one worker runs all its tests, and builds once."""
    return [
        pytest.mark.slow,
        pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers"),
        pytest.mark.xdist_group(f"host {operator}"),
    ]


def random(shape: tuple[int, ...], seed: int, dtype: str) -> Tensor:
    """Normal numbers, rounded to ``dtype``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))


def raw(tensor: Tensor) -> np.ndarray:
    """The elements in (N, C, H, W) order, as bytes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def make_case(
    function: str, name: str, dtype: str, arguments: list[Any], *, inputs: dict[str, np.ndarray], expected: Tensor
) -> Case:
    """One call of a kernel; ``expected`` is in float64."""
    call = {
        "function": f"{function}_{dtype}",
        "dtype": dtype,
        "bytes": getattr(torch, dtype).itemsize,
        "name": f"{function} {dtype} {name}",
        "arguments": arguments,
        "tolerance": TOLERANCES[dtype],
    }
    return call, inputs | {"out": expected.contiguous().reshape(-1).numpy()}


def index_case(
    function: str, name: str, arguments: list[Any], arrays: dict[str, np.ndarray], expected: np.ndarray
) -> Case:
    """A call whose results are whole numbers, compared exactly."""
    exact = torch.from_numpy(expected.astype(np.float64))
    call, all_arrays = make_case(function, name, "float64", arguments, inputs=arrays, expected=exact)
    return call | {"tolerance": 0.0}, all_arrays


def build(source: str, folder: Path, sources: Path = FOLDER, kernels: Sequence[str] = ()) -> Path:
    """``sources``/``source``.cpp, with these files of csrc/, as a shared library in ``folder``."""
    library = folder / f"{source}.so"
    # What stands in for other headers comes first.
    include = [
        f"-I{path}" for path in (sources, ROOT / "csrc", ROOT / "tests", Path(torch.__file__).parent / "include")
    ]
    command = ["g++", *FLAGS, *SANITIZE, *include, str(sources / f"{source}.cpp")]
    command += [*(str(ROOT / "csrc" / name) for name in kernels), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return library


def run(library: Path, cases: list[Case], folder: Path) -> None:
    """Run prepared cases in a process of their own and fail with what it prints."""
    arrays: dict[str, Any] = {}
    for i, (call, inputs) in enumerate(cases):
        arrays[f"{i}.call"] = np.array(json.dumps(call))
        arrays |= {f"{i}.{name}": array for name, array in inputs.items()}
    np.savez(folder / "cases.npz", **arrays)
    sanitizer = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    environment = os.environ | {
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, str(FOLDER / "run_cases.py"), str(library), str(folder / "cases.npz")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
