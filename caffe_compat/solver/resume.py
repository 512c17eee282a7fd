"""Our own file beside Caffe's snapshot: what an exact resume needs more than Caffe saves.

``<prefix>_iter_N.resume`` is JSON: data positions, random states, the window of smoothed losses and layers' buffers,
for each of the processes that trained together.  Caffe ignores it; without it we resume as Caffe does.
"""

import base64
import json
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError, SolverError

VERSION = 1


def write_resume(path: str | os.PathLike[str], iteration: int, states: list[dict[str, Any]]) -> None:
    """Write every process's ``TrainingState.state()``, by rank; the file is whole or absent."""
    record = {"version": VERSION, "iteration": iteration, "ranks": states}
    write_text(path, json.dumps(record, default=_encode))


def read_resume(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the file back; SolverError when it is damaged or of another version."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file, object_hook=_decode)
    except (OSError, ValueError) as error:
        raise SolverError(f"{os.fspath(path)}: cannot be read: {error}; remove it to resume as Caffe does") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise SolverError(f"{os.fspath(path)}: is no resume file of version {VERSION}; remove it to resume as Caffe")
    return record


# -- JSON with bytes and tensors --------------------------------------------------------


def _encode(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes | bytearray):
        return {"__bytes__": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, np.integer | np.floating):
        return value.item()  # type: ignore[return-value]
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous()
        return {
            "__tensor__": base64.b64encode(array.numpy().tobytes()).decode(),
            "dtype": str(array.numpy().dtype),
            "shape": list(array.shape),
        }
    raise CaffeCompatError(f"a source_state holds a {type(value).__name__}; expected JSON values, bytes or tensors")


def _decode(value: dict[str, Any]) -> Any:
    if "__bytes__" in value:
        return base64.b64decode(value["__bytes__"])
    if "__tensor__" in value:
        array = np.frombuffer(base64.b64decode(value["__tensor__"]), np.dtype(value["dtype"]))
        return torch.from_numpy(array.reshape(value["shape"]).copy())
    return value
