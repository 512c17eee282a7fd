"""Snapshots: Caffe's .caffemodel and .solverstate, and our .resume for an exact continuation.

Order of writing: an old .solverstate of that iteration is removed, then weights, resume file, solver state are
written, each atomically.  So a .solverstate marks its snapshot as whole.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.net import Net
from caffe_compat.proto import (
    SolverSnapshot,
    caffe_pb2,
    is_hdf5,
    read_caffemodel,
    read_hdf5_solverstate,
    read_hdf5_weights,
    read_solverstate,
    write_caffemodel,
    write_hdf5_solverstate,
    write_hdf5_weights,
    write_solverstate,
)
from caffe_compat.solver import resume
from caffe_compat.solver.log import Log

if TYPE_CHECKING:
    from caffe_compat.solver.solver import Solver

_STATE_NAME = re.compile(r"_iter_(\d+)\.solverstate(\.h5)?$")


def write_snapshot(solver: "Solver") -> Path | None:
    """Write the snapshot of the present iteration; see ``Solver.snapshot``."""
    states = solver.parallel.gather(resume.collect(solver))
    if not solver.parallel.is_root:
        return None
    param = solver.param
    hdf5 = param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    kind, ending = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
    stem = f"{param.snapshot_prefix}_iter_{solver.iter}"
    model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
    Path(state).unlink(missing_ok=True)
    solver.log.snapshot(kind, model)
    _save_model(solver.net, model, with_diffs=param.snapshot_diff)
    resume.write_resume(f"{stem}.resume", solver.iter, states)
    solver.log.snapshot_state(kind, state)
    histories = solver.optimizer.histories(p.parameter for p in solver.net.learnable)
    write = write_hdf5_solverstate if hdf5 else write_solverstate
    write(state, SolverSnapshot(solver.iter, model, solver.schedule.current_step, [h.cpu().numpy() for h in histories]))
    solver.log.snapshot_done(solver.iter, model, state)
    return Path(state)


def _save_model(net: Net, path: str, with_diffs: bool) -> None:
    """The weights; ``with_diffs`` (snapshot_diff) also what the last update left in the gradients."""
    if not with_diffs:
        net.save(path)
        return
    blobs: dict[str, list[np.ndarray | None]]
    blobs = {step.layer.name: [p.detach().cpu().numpy() for p in step.layer.blobs] for step in net.steps}
    diffs: dict[str, list[np.ndarray | None]]
    diffs = {step.layer.name: [_gradient(p) for p in step.layer.blobs] for step in net.steps}
    if not path.endswith(".h5"):
        write_caffemodel(path, net.param, blobs, diffs)
        return
    # HDF5 files leave out what is shared from another layer.
    owned = {(p.layer, p.index) for p in net.learnable}
    for arrays in (blobs, diffs):
        for name, entries in arrays.items():
            arrays[name] = [a if (name, i) in owned else None for i, a in enumerate(entries)]
    write_hdf5_weights(path, blobs, diffs)


def _gradient(parameter: torch.nn.Parameter) -> np.ndarray:
    grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return grad.detach().cpu().numpy()


def restore_snapshot(solver: "Solver", path: str | os.PathLike[str]) -> None:
    """Continue from a snapshot; see ``Solver.restore``.  Nothing is changed when it does not fit."""
    state = _read_state(path)
    _check_history(solver, state, path)
    if state.learned_net:
        solver.net.copy_from(_find_model(state.learned_net, path))
    solver.log.restoring_history()
    parameters = [p.parameter for p in solver.net.learnable]
    values = [
        torch.from_numpy(np.array(history)).to(solver.device, solver.net.dtype)  # a copy: the file's view is read-only
        for history in state.history
    ]
    solver.optimizer.load_histories(parameters, values)
    solver.iter = state.iter
    solver.schedule.current_step = state.current_step
    _restore_exactly(solver, path)


def _read_state(path: str | os.PathLike[str]) -> SolverSnapshot:
    return read_hdf5_solverstate(path) if os.fspath(path).endswith(".h5") else read_solverstate(path)


def _check_history(solver: "Solver", state: SolverSnapshot, path: str | os.PathLike[str]) -> None:
    learnable = solver.net.learnable
    expected = len(learnable) * solver.optimizer.history_count
    if len(state.history) != expected:
        raise SolverError(
            f"{os.fspath(path)}: has {len(state.history)} history blobs; {solver.param.type} on the net "
            f"{solver.net.source} needs {expected}: it is the snapshot of another net or solver type"
        )
    for i, array in enumerate(state.history):
        owner = learnable[i % len(learnable)]
        ours = tuple(owner.parameter.shape)
        # Caffe before BlobShape wrote four numbers.
        legacy = (1,) * (4 - len(ours)) + ours
        if array.shape not in (ours, legacy):
            raise SolverError(
                f"{os.fspath(path)}: history {i} has shape {array.shape}, param {owner.index} of layer "
                f'"{owner.layer}" ({solver.net.source}) has {ours}: it is the snapshot of another net'
            )
        state.history[i] = array.reshape(ours)


def _find_model(learned_net: str, state_path: str | os.PathLike[str]) -> str:
    """The weights' file as the state names it, or, when the folder has moved, beside the state."""
    beside = Path(state_path).parent / Path(learned_net).name
    for candidate in (learned_net, os.fspath(beside)):
        if os.path.isfile(candidate):
            return candidate
    raise SolverError(
        f"{os.fspath(state_path)}: learned_net {learned_net} is not there, nor {beside}; "
        "put the .caffemodel beside the .solverstate"
    )


def _resume_path(state_path: str | os.PathLike[str]) -> Path:
    return Path(re.sub(r"\.solverstate(\.h5)?$", "", os.fspath(state_path)) + ".resume")


def _restore_exactly(solver: "Solver", path: str | os.PathLike[str]) -> None:
    file = _resume_path(path)
    if not file.is_file():
        return
    record = resume.read_resume(file)
    states: list[dict[str, Any]] = record["ranks"]
    if record["iteration"] != solver.iter or len(states) != solver.parallel.count:
        solver.log.resume_does_not_fit(file, record["iteration"], len(states))
        return
    resume.restore(solver, states[solver.parallel.rank])
    solver.keep_window = True


# -- --snapshot auto --------------------------------------------------------------------


def find_snapshot(prefix: str | os.PathLike[str], log: Log | None = None) -> Path | None:
    """The newest whole snapshot ``<prefix>_iter_N.solverstate[.h5]``, or None.

    A snapshot with a damaged file is passed over with a warning in the log.
    """
    for path in _states_newest_first(Path(prefix)):
        try:
            _check_whole(path)
        except (CaffeCompatError, OSError) as error:
            if log is not None:
                log.passing_over_snapshot(path, error)
        else:
            return path
    return None


def _states_newest_first(prefix: Path) -> list[Path]:
    if not prefix.parent.is_dir():
        return []
    found = []
    for path in prefix.parent.iterdir():
        match = _STATE_NAME.search(path.name)
        if match and path.name == prefix.name + match[0]:
            found.append((int(match[1]), path.stat().st_mtime, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def _check_whole(path: Path) -> None:
    state = _read_state(path)
    if state.learned_net:
        model = _find_model(state.learned_net, path)
        if is_hdf5(model):
            read_hdf5_weights(model)
        else:
            read_caffemodel(model)
    if _resume_path(path).is_file():
        resume.read_resume(_resume_path(path))
