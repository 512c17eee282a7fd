"""Weights in and out of caffemodel files (a NetParameter with blobs), without parsing the whole message."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2
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
from caffe_compat.proto.fork_files import Numbers, net_writer
from caffe_compat.proto.read import HDF5_SIGNATURE, is_text
from caffe_compat.proto.source import FilePath, Source
from caffe_compat.proto.upgrade import v0, v1
from caffe_compat.proto.wire import BYTES, VARINT, Buffer, Field, encode_tag, encode_varint, fail, read_field

#: of one layer
Arrays = Sequence[np.ndarray | None]
#: of a net: by layer name, or for each layer in order
LayerArrays = Mapping[str, Arrays] | Sequence[Arrays]

MAX_LAYERS_AND_BLOBS = 1_000_000  # bounds the memory that a hostile file can take

_NET_NAME, _NET_V1_LAYERS, _NET_LAYER = 1, 2, 100
_V1_V0_LAYER = 1
_BLOBS = 7  # of LayerParameter


@dataclass
class LayerWeights:
    """The blobs of one layer of a weights file.

    ``type`` is the current name, also for V0 and V1 files.  ``blobs[i]`` is None when the file
    leaves it out (HDF5, shared parameters).  ``legacy[i]``: its shape is the old num, channels,
    height, width, padded with ones in front.  ``diffs[i]`` is None when no gradient is stored.
    """

    name: str
    type: str
    blobs: list[np.ndarray | None] = field(default_factory=list)
    legacy: list[bool] = field(default_factory=list)
    diffs: list[np.ndarray | None] = field(default_factory=list)


def read_caffemodel(path: FilePath) -> list[LayerWeights]:
    """The layers of a caffemodel (V0, V1 or current form) in file order.

    Blobs are read-only and, where the encoding allows, views into the memory-mapped file:
    float32, or float64 when stored as double.  Raises ProtoError with file, layer, blob and byte
    offset for anything that is not a whole, consistent caffemodel.
    """
    name = os.fspath(path)
    buffer = map_file(path, "caffemodel")
    if buffer[: len(HDF5_SIGNATURE)] == HDF5_SIGNATURE:
        raise ProtoError(f"{name}: is an HDF5 file; read it with read_hdf5_weights, or name it .caffemodel.h5")
    if is_text(buffer[:4096]):
        raise ProtoError(f"{name}: is a text file; expected a caffemodel (binary)")
    return _read_layers(buffer, name)


def message_weights(net: caffe_pb2.NetParameter, source: str = "<message>") -> list[LayerWeights]:
    """The same from a NetParameter message of any form."""
    return _read_layers(net.SerializePartialToString(), source)


@dataclass(frozen=True)
class _Form:
    """Field numbers of one generation of layer messages."""

    name: int
    type: int
    blobs: int


_V0 = _Form(name=1, type=2, blobs=50)
_V1 = _Form(name=4, type=5, blobs=6)
_V2 = _Form(name=1, type=2, blobs=7)


def _read_layers(buffer: Buffer, source: str) -> list[LayerWeights]:
    layers: list[LayerWeights] = []
    forms: set[_Form] = set()
    position, stop, items = 0, len(buffer), 0
    while position < stop:
        entry = read_field(buffer, position, stop, source)
        position = entry.stop
        if entry.number == _NET_NAME and entry.wire_type == VARINT:  # SolverState's iter
            raise ProtoError(f"{source}: is a solver state; expected a caffemodel, such as the one that lies beside it")
        if entry.wire_type != BYTES or entry.number not in (_NET_V1_LAYERS, _NET_LAYER):
            continue
        form = _V2
        if entry.number == _NET_V1_LAYERS:
            form = _V0 if _find(buffer, entry, _V1_V0_LAYER, source) else _V1
        forms.add(form)
        if len(forms) > 1:
            fail(source, entry.tag_start, "layers of different generations (V0, V1, current) in one file")
        layer = _read_layer(buffer, entry, form, source, len(layers))
        items += 1 + len(layer.blobs)
        if items > MAX_LAYERS_AND_BLOBS:
            fail(source, entry.tag_start, f"more than {MAX_LAYERS_AND_BLOBS} layers and blobs")
        # A V0 padding layer is part of the layer behind it.
        if form is not _V0 or layer.type != "padding":
            layers.append(layer)
    if not forms and stop:
        raise ProtoError(f"{source}: holds no layers; expected a caffemodel")
    return layers


def _find(buffer: Buffer, parent: Field, number: int, place: str) -> list[Field]:
    """The BYTES fields of this number in a message."""
    found = []
    position = parent.start
    while position < parent.stop:
        child = read_field(buffer, position, parent.stop, place)
        position = child.stop
        if child.number == number and child.wire_type == BYTES:
            found.append(child)
    return found


def _read_layer(buffer: Buffer, entry: Field, form: _Form, source: str, index: int) -> LayerWeights:
    place = f"{source}: layer {index}"
    name, type_name = b"", ""
    blobs: list[Field] = []
    for message in _find(buffer, entry, _V1_V0_LAYER, place) if form is _V0 else [entry]:
        position = message.start
        while position < message.stop:
            child = read_field(buffer, position, message.stop, place)
            position = child.stop
            if child.number == form.blobs and child.wire_type == BYTES:
                blobs.append(child)
                if len(blobs) > MAX_LAYERS_AND_BLOBS:
                    fail(place, child.tag_start, f"more than {MAX_LAYERS_AND_BLOBS} blobs")
            elif child.number == form.name and child.wire_type == BYTES:
                name = buffer[child.start : child.stop]
            elif child.number == form.type and child.wire_type in (BYTES, VARINT):
                type_name = _current_type(buffer, child, form, place)
    layer = LayerWeights(name.decode("utf-8", "backslashreplace"), type_name)
    for i, blob in enumerate(blobs):
        arrays = decode_blob(buffer, blob.start, blob.stop, f"{Source(source).layer(layer.name)}: blob {i}")
        layer.blobs.append(arrays.data)
        layer.diffs.append(arrays.diff)
        layer.legacy.append(arrays.legacy)
    return layer


def _current_type(buffer: Buffer, child: Field, form: _Form, place: str) -> str:
    if form is _V1:
        # An unknown number is an unknown field to protobuf: no type.
        known = caffe_pb2.V1LayerParameter.LayerType.DESCRIPTOR.values_by_number.get(child.value)
        return v1.TYPES.get(known.name, "") if known else ""
    text = buffer[child.start : child.stop].decode("utf-8", "backslashreplace")
    if form is _V2 or text == "padding":
        return text
    if text not in v0.TYPES:
        fail(place, child.tag_start, f"unknown V0 layer type {text!r}")
    return v1.TYPES[v0.TYPES[text]]


def write_caffemodel(
    path: FilePath,
    net: caffe_pb2.NetParameter,
    blobs: LayerArrays,
    diffs: LayerArrays | None = None,
) -> None:
    """Write ``net`` (a current NetParameter) with ``blobs``, atomically and as Caffe lays it out.

    ``blobs`` and ``diffs``: by layer name, or, for nets in which names repeat or are empty, a sequence with one entry
    for each layer of ``net``, in order.  float32 arrays become data, float64 ones double_data.  The arrays are
    written one after another, never gathered in memory.  Blobs inside ``net`` itself are left out.  Raises ProtoError
    when a name is not that of one layer of ``net``, a dtype is another one, or the file would pass 2 GB.
    """
    target = os.fspath(path)
    names = [layer.name for layer in net.layer]
    blobs_in_order = _in_order(blobs, names, "blobs", target)
    diffs_in_order = _in_order(diffs or {}, names, "diffs", target)
    numbers = net_writer(net, target)
    head, tail = (numbers(part, net.DESCRIPTOR) for part in _split_message(net, _NET_LAYER))
    pieces: list[Piece] = [head]
    for layer, own_blobs, own_diffs in zip(net.layer, blobs_in_order, diffs_in_order, strict=True):
        body = _encode_layer(layer, own_blobs, own_diffs, target, numbers)
        pieces += [encode_tag(_NET_LAYER, BYTES) + encode_varint(size_bytes(body)), *body]
    pieces.append(tail)
    total = size_bytes(pieces)
    if total > MAX_MESSAGE_BYTES:
        raise ProtoError(f"{target}: {total} bytes exceed the 2 GB of a protobuf file; use .caffemodel.h5")
    with open_whole(path) as file:
        write_pieces(file, pieces)


def _in_order(arrays: LayerArrays, names: Sequence[str], what: str, target: str) -> Sequence[Arrays]:
    """One entry for each layer of the net."""
    if not isinstance(arrays, Mapping):
        if len(arrays) != len(names):
            raise ProtoError(f"{target}: {what} are given for {len(arrays)} layers; the net has {len(names)}")
        return arrays
    for name in sorted(arrays):
        if name not in names:
            raise ProtoError(f'{target}: {what} are given for layer "{name}", which is not in the net')
        if arrays[name] and names.count(name) > 1:
            raise ProtoError(
                f'{target}: {what} are given for layer "{name}", and the net has {names.count(name)} layers of that '
                "name; give a list with one entry for each layer of the net"
            )
    return [arrays.get(name, ()) for name in names]


def _encode_layer(
    layer: caffe_pb2.LayerParameter, blobs: Arrays, diffs: Arrays, target: str, numbers: Numbers
) -> list[Piece]:
    head, tail = (numbers(part, layer.DESCRIPTOR) for part in _split_message(layer, _BLOBS))
    pieces: list[Piece] = [head]
    for i, array in enumerate(blobs):
        place = f'{target}: layer "{layer.name}": blob {i}'
        if array is None:
            raise ProtoError(f"{place}: is None; only HDF5 files leave out shared parameters")
        body = encode_blob(array, diffs[i] if i < len(diffs) else None, place)
        pieces += [encode_tag(_BLOBS, BYTES) + encode_varint(size_bytes(body)), *body]
    return [*pieces, tail]


def _split_message(message: Any, number: int) -> tuple[bytes, bytes]:
    """The encoded fields before and after field ``number``, which is left out itself."""
    before, after = type(message)(), type(message)()
    before.CopyFrom(message)
    after.CopyFrom(message)
    for descriptor, _ in message.ListFields():
        if descriptor.number >= number:
            before.ClearField(descriptor.name)
        if descriptor.number <= number:
            after.ClearField(descriptor.name)
    before.DiscardUnknownFields()
    return before.SerializePartialToString(), after.SerializePartialToString()
