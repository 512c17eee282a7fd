"""Runs the host build of the CUDA kernels on prepared cases; called by host_kernels.py under AddressSanitizer.

    python run_cases.py KERNELS.so CASES.npz

CASES.npz holds for each case a JSON text ``<i>.call`` (function, and arguments in which "$name" stands for the array
``<i>.name`` and "$out" for the result), the expected result ``<i>.out`` in float64, and its tolerance in the call.
NumPy only: importing torch under the sanitizer takes longer than all cases.  Prints one line for each failure.
"""

import ctypes
import json
import sys
from typing import Any

import numpy as np

SEEDS = (1, 2)  # of the threads' order; a race shows as a difference


def run(library: ctypes.CDLL, call: dict[str, Any], arrays: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """The result of one case, as raw elements of the case's type."""
    out = np.full(arrays["out"].shape, 0xFF, dtype=np.uint8).repeat(call["bytes"], axis=-1)
    arguments: list[Any] = []
    for value in call["arguments"]:
        if isinstance(value, str):
            array = out if value == "$out" else arrays[value[1:]]
            arguments.append(array.ctypes.data_as(ctypes.c_void_p))
        elif value is None:
            arguments.append(ctypes.c_void_p(None))
        else:
            kind = {bool: ctypes.c_bool, int: ctypes.c_int64, float: ctypes.c_double}[type(value)]
            arguments.append(kind(value))
    getattr(library, call["function"])(*arguments, ctypes.c_uint(seed))
    return out


def as_float64(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Elements of a floating type as float64."""
    if dtype == "bfloat16":  # the upper half of a float32
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.view(dtype).astype(np.float64)


def main() -> int:
    library = ctypes.CDLL(sys.argv[1])
    cases = np.load(sys.argv[2])
    failures = 0
    stored = {name: cases[name] for name in cases.files}
    for key in [name for name in stored if name.endswith(".call")]:
        prefix = key.removesuffix("call")
        call = json.loads(str(stored[key]))
        arrays = {name.removeprefix(prefix): array for name, array in stored.items() if name.startswith(prefix)}
        raw = [run(library, call, arrays, seed) for seed in SEEDS]
        actual, expected = as_float64(raw[0], call["dtype"]), arrays["out"]
        error = np.abs(actual - expected).max(initial=0.0)
        allowed = call["tolerance"] * max(1.0, np.abs(expected).max(initial=0.0))
        if not error <= allowed:  # also when it is NaN
            failures += 1
            print(f"{call['name']}: error {error:.3g}, allowed {allowed:.3g}")
        if any(not np.array_equal(raw[0], other) for other in raw[1:]):
            failures += 1
            print(f"{call['name']}: the result depends on the threads' order")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
