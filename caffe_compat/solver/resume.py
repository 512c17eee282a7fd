"""Our own file beside Caffe's snapshot: what an exact resume needs more than Caffe saves.

``<prefix>_iter_N.resume`` is JSON: data positions, random states, the window of smoothed losses and layers' buffers,
for each of the processes that trained together; digests of its own text and of the snapshot that it belongs to.
Caffe ignores it; without it we resume as Caffe does.
"""

import base64
import hashlib
import json
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError, SolverError, reason, refusal
from caffe_compat.proto import SolverSnapshot

VERSION = 2
#: those before did not say what snapshot and which data they belong to, so that nothing in them can be trusted
VERSIONS = (1, VERSION)


def write_resume(
    path: str | os.PathLike[str], iteration: int, states: list[dict[str, Any]], snapshot: dict[str, str] | None = None
) -> None:
    """Write every process's ``TrainingState.state()``, by rank; the file is whole or absent.

    ``snapshot``: the ``snapshot_identity`` of what it lies beside.
    """
    record = {"version": VERSION, "iteration": iteration, "snapshot": snapshot or {}, "ranks": states}
    text = json.dumps(record, default=_encode)
    write_text(path, f'{{"sha256": "{_sha256(text)}", {text[1:]}')


def read_resume(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the file back: ``version``, ``iteration``, and of the present version ``snapshot`` and ``ranks``.

    SolverError when it is damaged or of a later version.
    """
    cure = "remove it to resume as Caffe does"
    try:
        with open(path, encoding="utf-8") as file:
            plain = json.load(file)
        if not isinstance(plain, dict) or plain.get("version") not in VERSIONS:
            raise SolverError(f"{os.fspath(path)}: is no resume file of version {VERSION}; {cure}")
        written = plain.pop("sha256", None)
        text = json.dumps(plain)
        if (plain["version"] == VERSION or written is not None) and written != _sha256(text):
            raise SolverError(f"{os.fspath(path)}: is damaged: its text is not what its sha256 says; {cure}")
        record: dict[str, Any] = json.loads(text, object_hook=_decode)
        if plain["version"] == VERSION and not (isinstance(record["snapshot"], dict) and _are_states(record["ranks"])):
            raise SolverError(f"{os.fspath(path)}: is damaged: has no snapshot's digests or no states; {cure}")
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        why = f"{refusal(error, path)}" if isinstance(error, OSError) else reason(error)
        raise SolverError(f"{os.fspath(path)}: cannot be read: {why}; {cure}") from error
    return record


def _are_states(ranks: object) -> bool:
    return isinstance(ranks, list) and all(isinstance(state, dict) for state in ranks)


def snapshot_identity(snapshot: SolverSnapshot, weights: str | os.PathLike[str] | None) -> dict[str, str]:
    """Digests of a snapshot: of the weights' file (there may be none) and of the values in the solver state."""
    state = hashlib.sha256(f"{snapshot.iter} {snapshot.current_step}".encode())
    for array in snapshot.history:
        state.update(np.ascontiguousarray(array).data)
    identity = {"solverstate": state.hexdigest()}
    if weights is not None:
        with open(weights, "rb") as file:
            identity["weights"] = hashlib.file_digest(file, "sha256").hexdigest()
    return identity


def misfit(record: dict[str, Any], snapshot: dict[str, str]) -> str:
    """Why ``record`` was not written with this ``snapshot``, in words; empty when it was."""
    if record["version"] != VERSION:
        return f"is of version {record['version']}, which does not say what it belongs to"
    others = [name for name, digest in record["snapshot"].items() if snapshot.get(name) != digest]
    if others or not record["snapshot"]:
        return f"was written with another snapshot (other {' and '.join(others) or 'files'})"
    return ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
