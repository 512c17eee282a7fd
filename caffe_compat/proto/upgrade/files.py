"""Whole files upgraded, as Caffe's three upgrade tools do it."""

import os
import sys
from collections.abc import Callable
from typing import Any, Literal

from caffe_compat.errors import printable
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.read import read_message_with_source
from caffe_compat.proto.source import FilePath
from caffe_compat.proto.upgrade import upgrade_net_logged, upgrade_solver
from caffe_compat.proto.write import write_binary_message, write_text_message

_WRITE: dict[str, Callable[[FilePath, Any], None]] = {"text": write_text_message, "binary": write_binary_message}


def upgrade_net_file(source: FilePath, target: FilePath, form: Literal["text", "binary"]) -> int:
    """Upgrade a net and write it; what was dropped goes to stderr.

    Returns the exit status: 1 when fields were dropped that Caffe complains about, else 0.
    Raises ProtoError.
    """
    net, place = read_message_with_source(source, caffe_pb2.NetParameter(), form)
    log = upgrade_net_logged(net, place)
    for text in log.problems + log.notes:
        _say(text)
    _finish(net, source, target, log.changed, form)
    return 1 if log.problems else 0


def upgrade_solver_file(source: FilePath, target: FilePath) -> int:
    """Upgrade a solver's prototxt and write it.  Returns the exit status 0; raises ProtoError."""
    solver, place = read_message_with_source(source, caffe_pb2.SolverParameter(), "text")
    _finish(solver, source, target, upgrade_solver(solver, place), "text")
    return 0


def _finish(message: Any, source: FilePath, target: FilePath, changed: bool, form: str) -> None:
    if not changed:
        _say(f"{os.fspath(source)}: is in the current format already")
    _WRITE[form](target, message)
    _say(f"Wrote {message.DESCRIPTOR.name} ({form}) to {os.fspath(target)}")


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)
