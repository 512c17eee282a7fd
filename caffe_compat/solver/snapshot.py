"""Snapshots: Caffe's .caffemodel and .solverstate, and our .resume for an exact continuation.

Order of writing: an old .solverstate of that iteration is removed, then weights, resume file, solver state are
written, each atomically.  So a .solverstate marks its snapshot as whole.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caffe_compat import proto
from caffe_compat.errors import CaffeCompatError, SolverError, seen_from
from caffe_compat.file_lock import ProcessLock
from caffe_compat.net.weights import copy_weights
from caffe_compat.proto import (
    SolverSnapshot,
    caffe_pb2,
    is_hdf5,
    read_caffemodel,
    read_solverstate,
    write_solverstate,
)
from caffe_compat.solver import resume
from caffe_compat.solver.log import Log
from caffe_compat.solver.parallel import Parallel
from caffe_compat.solver.training_state import TrainingState

_STATE_NAME = re.compile(r"_iter_(\d+)\.solverstate(\.h5)?$")


class Snapshots:
    """Writes and reads the snapshots of a training run; ``param`` says where and in which form."""

    def __init__(
        self,
        param: caffe_pb2.SolverParameter,
        state: TrainingState,
        parallel: Parallel,
        log: Log,
        *,
        source: str,
        may_write: Callable[[], None] | None = None,
    ) -> None:
        self._param, self._state, self._parallel, self._log = param, state, parallel, log
        self._source, self._may_write = source, may_write
        self._check_names()

    def hold(self) -> None:
        """Keep other processes from writing snapshots of these names until ``let_go``.

        SolverError when one does so already.
        """
        if self._may_write is not None:
            self._may_write()
        elif self._lock is None and self._parallel.is_root:
            self._lock = lock_prefix(self._param, self._source)

    def let_go(self) -> None:
        """Let other processes write, or others of this one that hold the same."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    _lock: ProcessLock | None = None

    def is_due(self) -> bool:
        """Whether the present iteration ends with one."""
        return bool(self._param.snapshot) and self._state.iteration % self._param.snapshot == 0

    def write(self) -> Path | None:
        """Write one of the present iteration; see ``Solver.snapshot``."""
        states = self._parallel.gather(self._state.state())
        if not self._parallel.is_root:
            return None
        self.hold()
        hdf5 = self._param.snapshot_format == caffe_pb2.SolverParameter.HDF5
        kind, ending = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
        stem = f"{self._param.snapshot_prefix}_iter_{self._state.iteration}"
        model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
        Path(os.path.realpath(state)).unlink(missing_ok=True)  # a link stays, and will lead to the new file
        self._log.snapshot(kind, model)
        self._state.net.save(model, diffs=self._param.snapshot_diff)
        snapshot = self._state.solver_snapshot(model)
        resume.write_resume(f"{stem}.resume", self._state.iteration, states, resume.snapshot_identity(snapshot, model))
        self._log.snapshot_state(kind, state)
        self.hold()  # the weights took a while to write, and the state makes the snapshot count
        write = proto.write_hdf5_solverstate if hdf5 else write_solverstate
        write(state, snapshot)
        self._log.snapshot_done(self._state.iteration, model, state)
        return Path(state)

    def check(self, path: str | os.PathLike[str]) -> None:
        """Raise what ``restore`` would for one of another net or solver type; nothing is changed."""
        snapshot = _read_state(path)
        self._state.check_solver_snapshot(snapshot, path)
        if snapshot.learned_net:
            model = _find_model(snapshot.learned_net, path)
            copy_weights(self._state.net.graph, model, strict=True, look_only=True)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continue from one; see ``Solver.restore``.  Nothing is changed when it does not fit."""
        snapshot = _read_state(path)
        self._state.check_solver_snapshot(snapshot, path)
        model = _find_model(snapshot.learned_net, path) if snapshot.learned_net else None
        exact = self._read_exact(_resume_path(path), snapshot, model)
        if model is not None:
            # Every layer, or the run that goes on would be another one.
            self._state.net.copy_from(model, strict=True)
        self._log.restoring_history()
        self._state.load_solver_snapshot(snapshot)
        if exact is not None:
            for problem in self._state.load_state(exact, _resume_path(path)):
                self._log.state_does_not_fit(_resume_path(path), problem)

    def _check_names(self) -> None:
        """Say now, and not after a week, that the snapshots of this net cannot be written, or not be restored."""
        names, model = self._state.net.repeated_names, self._state.net.source
        if not names or not (self._param.snapshot or self._param.snapshot_after_train):
            return
        if self._param.snapshot_format == caffe_pb2.SolverParameter.HDF5:
            raise SolverError(
                f"{model}: snapshot_format is HDF5, which knows a layer by its name, and several layers, some with "
                f'parameters, have the name "{names[0]}"; give each a name of its own, or take BINARYPROTO'
            )
        self._log.repeated_name(model, names[0])

    def _read_exact(self, path: Path, snapshot: SolverSnapshot, model: str | None) -> dict[str, Any] | None:
        """This process's part of the resume file, where there is one and it belongs to the snapshot."""
        if not path.is_file():
            return None
        record = resume.read_resume(path)
        reason = resume.misfit(record, resume.snapshot_identity(snapshot, model))
        if not reason and len(record["ranks"]) != self._parallel.count:
            reason = f"is of {len(record['ranks'])} process(es), not {self._parallel.count}"
        if reason:
            self._log.resume_does_not_fit(path, reason)
            return None
        state: dict[str, Any] = record["ranks"][self._parallel.rank]
        return state


def lock_prefix(param: caffe_pb2.SolverParameter, source: str) -> ProcessLock | None:
    """The right to write snapshots with this snapshot_prefix; SolverError when another process has it.

    None where no file can be made: writing says so.
    """
    lock = Path(f"{param.snapshot_prefix}.lock")
    if not os.access(lock.parent, os.W_OK | os.X_OK):
        return None
    refusal = SolverError(
        f'{source}: another process trains with snapshot_prefix "{param.snapshot_prefix}"; wait for it or stop it, '
        "or set another snapshot_prefix"
    )
    return ProcessLock(lock, refusal)


def _read_state(path: str | os.PathLike[str]) -> SolverSnapshot:
    return proto.read_hdf5_solverstate(path) if os.fspath(path).endswith(".h5") else read_solverstate(path)


def _find_model(learned_net: str, state_path: str | os.PathLike[str]) -> str:
    """The weights' file as the state names it, or, when the folder has moved, beside the state."""
    beside = Path(state_path).parent / Path(learned_net).name
    for candidate in (learned_net, os.fspath(beside)):
        if os.path.isfile(candidate):
            return candidate
    raise SolverError(
        f"{os.fspath(state_path)}: learned_net {learned_net} is not there, nor {beside}; "
        f"put the .caffemodel beside the .solverstate{seen_from(learned_net)}"
    )


def _resume_path(state_path: str | os.PathLike[str]) -> Path:
    return Path(re.sub(r"\.solverstate(\.h5)?$", "", os.fspath(state_path)) + ".resume")


# -- --snapshot auto --------------------------------------------------------------------


def find_snapshot(
    prefix: str | os.PathLike[str], log: Log | None = None, fits: Callable[[Path], None] | None = None
) -> Path | None:
    """The newest whole snapshot ``<prefix>_iter_N.solverstate[.h5]``, or None.

    A snapshot with a damaged file, or with files of different runs, is passed over with a warning in the log.
    ``fits`` raises for one that is of another net; where no other is left, that error is raised, so that nobody
    starts anew over another net's snapshots.
    """
    foreign: CaffeCompatError | None = None
    for path in _states_newest_first(Path(prefix)):
        try:
            _check_whole(path)
        except (CaffeCompatError, OSError) as error:
            if log is not None:
                log.passing_over_snapshot(path, error)
            continue
        try:
            if fits is not None:
                fits(path)
        except CaffeCompatError as error:
            foreign = foreign or error
            if log is not None:
                log.passing_over_snapshot(path, error)
        else:
            return path
    if foreign is not None:
        raise foreign
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
    model = None
    if state.learned_net:
        model = _find_model(state.learned_net, path)
        if is_hdf5(model):
            proto.read_hdf5_weights(model)
        else:
            read_caffemodel(model)
    exact = _resume_path(path)
    if exact.is_file():
        record = resume.read_resume(exact)
        # One of version 1 may well belong to it.
        reason = resume.misfit(record, resume.snapshot_identity(state, model)) if record["version"] > 1 else ""
        if reason:
            raise SolverError(f"{exact} {reason}; remove it to resume from this one as Caffe does")
