"""Our own file beside Caffe's snapshot: what an exact resume needs more than Caffe saves.

``<prefix>_iter_N.resume`` is JSON: data positions, random states, the window of smoothed losses and layers' buffers,
for each of the processes that trained together.  Caffe ignores it; without it we resume as Caffe does.
"""

import base64
import json
import os
import random as python_random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from caffe_compat import random
from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError, SolverError

if TYPE_CHECKING:
    from caffe_compat.solver.solver import Solver

VERSION = 1


def collect(solver: "Solver") -> dict[str, Any]:
    """The state of this process."""
    return {
        "sources": [[layer.source_state() for layer in net.sources()] for net in (solver.net, *solver.test_nets)],
        "random": _random_state(solver.device),
        "losses": solver.smoothed.get_state(),
        "buffers": [_buffers(net) for net in (solver.net, *solver.test_nets)],
    }


def restore(solver: "Solver", state: dict[str, Any]) -> None:
    """Put ``solver`` into a ``collect``ed state."""
    for net, sources, buffers in zip((solver.net, *solver.test_nets), state["sources"], state["buffers"], strict=True):
        for layer, source in zip(net.sources(), sources, strict=True):
            if source:
                layer.load_source_state(source)
        own = dict(net.named_buffers())
        for name, value in buffers.items():
            own[name].resize_(value.shape).copy_(value)
    _set_random_state(state["random"], solver.device)
    solver.smoothed.set_state(state["losses"], solver.device)


def write_resume(path: str | os.PathLike[str], iteration: int, states: list[dict[str, Any]]) -> None:
    """Write the states of all ranks; the file is whole or absent."""
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


# -- random states ----------------------------------------------------------------------


def _random_state(device: torch.device) -> dict[str, Any]:
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "caffe": random.generator().get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        # Python layers may draw from these.
        "python": _as_lists(python_random.getstate()),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
    }


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    random.generator().set_state(state["caffe"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    version, internal, gauss = state["python"]
    python_random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))


def _buffers(net: nn.Module) -> dict[str, Tensor]:
    """What layers keep from pass to pass beside their parameters."""
    return {name: buffer.detach().cpu() for name, buffer in net.named_buffers() if buffer.numel()}


# -- JSON with bytes and tensors --------------------------------------------------------


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


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
