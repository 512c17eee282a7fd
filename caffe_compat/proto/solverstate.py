"""Solver snapshots: ``.solverstate`` (a SolverState message) and ``.solverstate.h5``."""

import os
from dataclasses import dataclass, field

import numpy as np

from caffe_compat.errors import ProtoError
from caffe_compat.proto.blob import (
    MAX_MESSAGE_BYTES,
    Piece,
    decode_blob,
    encode_blob,
    map_file,
    open_whole,
    size_bytes,
    write_pieces,
)
from caffe_compat.proto.read import is_text
from caffe_compat.proto.source import FilePath
from caffe_compat.proto.wire import BYTES, VARINT, as_int32, encode_bytes, encode_tag, encode_varint, read_field

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4
_OF_A_NET = (1, 100)  # NetParameter's name and layers


@dataclass
class SolverSnapshot:
    """``history``: the update rule's arrays, in Caffe's order.  ``learned_net``: the weights' path or None."""

    iter: int = 0
    learned_net: str | None = None
    current_step: int = 0
    history: list[np.ndarray] = field(default_factory=list)


def read_solverstate(path: FilePath) -> SolverSnapshot:
    """A snapshot's state; history arrays are read-only views of the memory-mapped file.

    Raises ProtoError with the byte offset for a malformed file.
    """
    source = os.fspath(path)
    buffer = map_file(path, "solver state")
    expected = "expected a .solverstate; to start from weights give the .caffemodel as weights (--weights)"
    if is_text(buffer[:4096]):
        raise ProtoError(f"{source}: is a text file; {expected}")
    snapshot = SolverSnapshot()
    position, stop, has_iter = 0, len(buffer), False
    while position < stop:
        entry = read_field(buffer, position, stop, source)
        position = entry.stop
        if entry.number == _ITER and entry.wire_type == VARINT:
            snapshot.iter, has_iter = as_int32(entry.value), True
        elif entry.number == _LEARNED_NET and entry.wire_type == BYTES:
            snapshot.learned_net = os.fsdecode(buffer[entry.start : entry.stop])
        elif entry.number == _CURRENT_STEP and entry.wire_type == VARINT:
            snapshot.current_step = as_int32(entry.value)
        elif entry.number == _HISTORY and entry.wire_type == BYTES:
            place = f"{source}: history {len(snapshot.history)}"
            snapshot.history.append(decode_blob(buffer, entry.start, entry.stop, place).data)
        elif entry.number in _OF_A_NET and entry.wire_type == BYTES:
            raise ProtoError(f"{source}: is a caffemodel; {expected}")
    if not has_iter:
        raise ProtoError(f"{source}: holds no iteration; {expected}")
    return snapshot


def write_solverstate(path: FilePath, snapshot: SolverSnapshot) -> None:
    """Write a snapshot's state as Caffe does, atomically.  Raises ProtoError, also beyond 2 GB."""
    target = os.fspath(path)
    pieces: list[Piece] = [encode_tag(_ITER, VARINT) + encode_varint(snapshot.iter)]
    if snapshot.learned_net is not None:
        pieces.append(encode_bytes(_LEARNED_NET, os.fsencode(snapshot.learned_net)))
    for i, array in enumerate(snapshot.history):
        body = encode_blob(array, None, f"{target}: history {i}")
        pieces += [encode_tag(_HISTORY, BYTES) + encode_varint(size_bytes(body)), *body]
    pieces.append(encode_tag(_CURRENT_STEP, VARINT) + encode_varint(snapshot.current_step))
    total = size_bytes(pieces)
    if total > MAX_MESSAGE_BYTES:
        raise ProtoError(f"{target}: {total} bytes exceed the 2 GB of a protobuf file; use snapshot_format: HDF5")
    with open_whole(path) as file:
        write_pieces(file, pieces)
