"""Field numbers of Caffe's forks, and messages turned from a fork's numbers into ours and back, byte by byte.

Forks gave the same numbers to different fields.  A ``Numbering`` is what one fork's numbers mean; ``fork_numbers.txt``
has those of the forks that are built in, ``--schema`` adds that of the user's file.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor

from caffe_compat.errors import ProtoError, printable
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.schema import PACKAGE, load_caffe_schema
from caffe_compat.proto.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    as_int32,
    encode_tag,
    encode_varint,
    read_field,
)

#: the descriptor of a message, of either implementation of protobuf
MessageType = Any
#: message -> number -> field, and the same of enums (``LossParameter.NormalizationMode``) and their values
Table = dict[str, dict[int, str]]

_MOST_NOTES = 50  # enough for a message; a damaged file would have thousands
_FIXED = {"TYPE_FLOAT": FIXED32, "TYPE_FIXED32": FIXED32, "TYPE_SFIXED32": FIXED32}
_FIXED |= {"TYPE_DOUBLE": FIXED64, "TYPE_FIXED64": FIXED64, "TYPE_SFIXED64": FIXED64}
_TYPE_NAMES: dict[int, str] = {number: name for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()}


@dataclass(frozen=True)
class Numbering:
    """What the numbers of one fork's files mean: Caffe 1.0's, but for those of ``table``."""

    name: str
    table: Table = field(default_factory=dict)


CAFFE = Numbering("Caffe 1.0")
#: of files that hold fields of several forks
OURS = Numbering("caffe_compat")


@cache
def built_in() -> tuple[Numbering, ...]:
    """The numberings of ``fork_numbers.txt``, in its order, and at last ours."""
    found: list[Numbering] = []
    text = re.sub(r"\n[ \t]+", " ", (Path(__file__).parent / "fork_numbers.txt").read_text())
    for line in text.splitlines():
        if line.startswith("["):
            found.append(Numbering(line[1:-1]))
        elif line and not line.startswith("#"):
            name, _, items = line.partition(":")
            pairs = (item.split("=") for item in items.split())
            found[-1].table[name] = {int(number): item for item, number in pairs}
    return (*found, OURS)


def numbering_of(file: descriptor_pb2.FileDescriptorProto) -> Numbering:
    """What a .proto file itself says of its numbers."""
    table: Table = {}

    def visit(messages: Iterable[Any], scope: str) -> None:
        for message in messages:
            name = scope + message.name
            table[name] = {item.number: item.name for item in message.field}
            table.update((f"{name}.{enum.name}", _numbers(enum)) for enum in message.enum_type)
            visit(message.nested_type, f"{name}.")

    table.update((enum.name, _numbers(enum)) for enum in file.enum_type)
    visit(file.message_type, "")
    return Numbering(file.name, table)


def _numbers(enum: Any) -> dict[int, str]:
    return {value.number: value.name for value in enum.value}


class LayerFields(Protocol):
    """Knows which fields belong to a layer of a type."""

    def strange(self, kind: str, names: Collection[str]) -> list[str]:
        """Those of ``names`` that do not belong to it, and what it lacks."""

    def own(self, kind: str, names: Collection[str]) -> bool:
        """Whether one of them is a fork's, and for this type."""


@dataclass
class Reading:
    """A net's bytes in our numbers, and what it has to leave out.

    ``problems`` and ``strays`` speak against the numbering: what it does not know, and fields that do not belong to
    their layer's type.  ``own``: how many layers have just the fork's field of their type.  ``pieces`` make up the
    bytes; arrays among them are views.  ``broken``: one of the problems is a part that is no message.
    """

    pieces: list[bytes | memoryview] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    own: int = 0
    left_out: list[str] = field(default_factory=list)
    broken: bool = False

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against the numbering."""
        return not self.problems and not self.strays

    @property
    def data(self) -> bytes:
        """The pieces in one."""
        return b"".join(self.pieces)

    @property
    def meaning(self) -> bytes:
        """The bytes without the arrays, which are the same in every numbering."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


class _Names:
    """A numbering looked up: which field, and which value, a number means."""

    def __init__(self, numbering: Numbering) -> None:
        self.numbering = numbering
        self._fields: dict[str, dict[int, FieldDescriptor | str]] = {}
        self._values: dict[str, dict[int, int]] = {}

    def fields(self, message: MessageType) -> dict[int, FieldDescriptor | str]:
        """By the fork's number; the name alone of a field that only the fork has."""
        found = self._fields.get(message.full_name)
        if found is None:
            known: Any = load_caffe_schema().classes.get(message.full_name)
            ours = self.numbering is OURS or known is None
            caffes = message.fields if ours else known.DESCRIPTOR.fields
            table = self.numbering.table.get(_local(message), {})
            elsewhere = set(table.values())
            found = {i.number: message.fields_by_name[i.name] for i in caffes if i.name not in elsewhere}
            for number, name in table.items():
                found[number] = message.fields_by_name.get(name, name)
            self._fields[message.full_name] = found
        return found

    def numbers(self, message: MessageType) -> dict[str, int]:
        """The fork's number of each field that it has."""
        fields = self.fields(message)
        return {item.name: number for number, item in fields.items() if isinstance(item, FieldDescriptor)}

    def value_numbers(self, enum: Any) -> dict[int, int]:
        """Our number of a value -> the fork's."""
        return {ours: theirs for theirs, ours in self.values(enum).items()}

    def values(self, enum: Any) -> dict[int, int]:
        """The fork's number of a value -> ours."""
        found = self._values.get(enum.full_name)
        if found is None:
            base = None if self.numbering is OURS else _caffes_enum(enum)
            table = self.numbering.table.get(_local(enum), {})
            elsewhere = set(table.values())
            known = (value for value in (base or enum).values if value.name not in elsewhere)
            found = {value.number: enum.values_by_name[value.name].number for value in known}
            for number, name in table.items():
                if name in enum.values_by_name:
                    found[number] = enum.values_by_name[name].number
                else:
                    found.pop(number, None)
            self._values[enum.full_name] = found
        return found


def _local(item: Any) -> str:
    return str(item.full_name).removeprefix(f"{PACKAGE}.")


def _caffes_enum(enum: Any) -> Any:
    """The enum as Caffe 1.0 has it."""
    names = load_caffe_schema()
    if enum.containing_type is None:
        return names.descriptor.enum_types_by_name.get(enum.name)
    owner = names.classes.get(enum.containing_type.full_name)
    return owner.DESCRIPTOR.enum_types_by_name.get(enum.name) if owner else None


def numbers_in(data: bytes) -> dict[str, set[int]]:
    """The numbers in a NetParameter and its layers, by message; ProtoError where the bytes are no message."""
    found: dict[str, set[int]] = {}

    def visit(start: int, stop: int, message: MessageType) -> None:
        numbers, position = found.setdefault(message.name, set()), start
        while position < stop:
            item = read_field(data, position, stop, "")
            position = item.stop
            numbers.add(item.number)
            known = message.fields_by_number.get(item.number)
            if item.wire_type == BYTES and known is not None and known.name in ("layer", "layers"):
                visit(item.start, item.stop, known.message_type)

    visit(0, len(data), caffe_pb2.NetParameter.DESCRIPTOR)
    return found


def knows(numbering: Numbering, found: dict[str, set[int]]) -> bool:
    """Whether a numbering has all numbers of ``numbers_in``."""
    names, schema = _Names(numbering), caffe_pb2.current_schema()
    return all(numbers <= names.fields(schema.names[kind].DESCRIPTOR).keys() for kind, numbers in found.items())


def read_numbers(data: bytes, numbering: Numbering, layers: LayerFields, *, give_up: bool = False) -> Reading:
    """A NetParameter's bytes in our numbers; ProtoError where they are no protobuf message.

    ``give_up``: stop at the first problem, without the bytes.
    """
    return _Reader(data, numbering, layers, give_up).read_net()


class _GivenUp(Exception):
    """There is a problem, and nobody wants to know of more."""


class _Reader:
    def __init__(self, data: bytes, numbering: Numbering, layers: LayerFields, give_up: bool) -> None:
        self.data, self.names, self.layers, self.give_up = data, _Names(numbering), layers, give_up
        self.reading = Reading()
        self.layer = ""

    def read_net(self) -> Reading:
        with suppress(_GivenUp):
            self.reading.pieces = list(self._read(0, len(self.data), caffe_pb2.NetParameter.DESCRIPTOR))
        return self.reading

    def _read(self, start: int, stop: int, message: MessageType) -> Iterator[bytes | memoryview]:
        fields, position = self.names.fields(message), start
        kind = self._enter_layer(start, stop, message)
        names: set[str] = set()
        while position < stop:
            item = read_field(self.data, position, stop, "")
            position = item.stop
            known = fields.get(item.number)
            if known is None:
                self._note(self.reading.problems, message, item.number)
            elif isinstance(known, str):
                names.add(known)
                self._note(self.reading.left_out, message, item.number, known)
            elif not _fits_wire_type(known, item.wire_type):
                self._note(self.reading.problems, message, item.number)
            else:
                names.add(known.name)
                yield from self._value(item, known)
        if kind is not None:
            self.reading.own += self.layers.own(kind, names)
            for name in self.layers.strange(kind, names):
                self._note(self.reading.strays, message, None, name)

    def _value(self, item: Field, known: Any) -> Iterator[bytes | memoryview]:
        tag = encode_tag(known.number, item.wire_type)
        if _is_translated(known):
            try:
                body = list(self._read(item.start, item.stop, known.message_type))
            except ProtoError:
                self.reading.broken = True
                self._note(self.reading.problems, known.containing_type, item.number, "(damaged)")
                return
            yield tag + encode_varint(sum(map(len, body)))
            yield from body
        elif known.enum_type is not None and item.wire_type == VARINT:
            theirs = as_int32(item.value)
            value = self.names.values(known.enum_type).get(theirs)
            if value is None:
                self._note(self.reading.problems, known.containing_type, item.number, f"{known.name}: {theirs}")
            else:
                yield tag + encode_varint(value)
        elif item.wire_type == BYTES:
            yield tag + encode_varint(item.stop - item.start)
            array = known.message_type is not None
            yield memoryview(self.data)[item.start : item.stop] if array else self.data[item.start : item.stop]
        else:
            yield tag + self.data[item.start : item.stop]

    def _enter_layer(self, start: int, stop: int, message: MessageType) -> str | None:
        """The type of the layer that these bytes are, None for another message; notes then name the layer."""
        if message.name not in ("LayerParameter", "V1LayerParameter"):
            return None
        name, kind, position = "", "", start
        fields, data = self.names.fields(message), self.data
        while position < stop:
            item = read_field(data, position, stop, "")
            position = item.stop
            known = getattr(fields.get(item.number), "name", "")
            if known == "name" and item.wire_type == BYTES:
                name = data[item.start : item.stop].decode("utf-8", "replace")
            elif known == "type" and item.wire_type == BYTES:
                kind = data[item.start : item.stop].decode("utf-8", "replace")
            elif known == "type" and item.wire_type == VARINT and message.name == "V1LayerParameter":
                kind = self._old_type(message, as_int32(item.value))
        self.layer = f'layer "{printable(name)}" ({printable(kind)})'
        return kind

    def _old_type(self, message: MessageType, number: int) -> str:
        """CONVOLUTION for the number of a V1 layer's type."""
        enum = message.enum_types_by_name["LayerType"]
        ours = self.names.values(enum).get(number)
        return "" if ours is None else enum.values_by_number[ours].name

    def _note(self, notes: list[str], message: MessageType, number: int | None, name: str = "") -> None:
        place = "" if message.name == "NetParameter" else f"{self.layer}: "
        what = " ".join(
            ([f"number {number} of {message.name}"] if number is not None else []) + ([name] if name else [])
        )
        if len(notes) < _MOST_NOTES:
            notes.append(place + what)
        if self.give_up and notes is self.reading.problems:
            raise _GivenUp


def _fits_wire_type(known: FieldDescriptor, wire_type: int) -> bool:
    name = _TYPE_NAMES[known.type]
    if name in ("TYPE_MESSAGE", "TYPE_STRING", "TYPE_BYTES"):
        return wire_type == BYTES
    return wire_type == _FIXED.get(name, VARINT) or (wire_type == BYTES and _is_repeated(known))


def _is_repeated(known: Any) -> bool:
    # protobuf 7 has no label, protobuf 5 no is_repeated
    return bool(known.is_repeated if hasattr(known, "is_repeated") else known.label == known.LABEL_REPEATED)


def write_numbers(data: bytes, message: MessageType, numbering: Numbering) -> bytes | None:
    """The encoded ``message`` in the numbers of a fork; None where the fork lacks a field or a value that is set."""
    try:
        return b"".join(_write(data, 0, len(data), message, _Names(numbering)))
    except KeyError:
        return None


def _write(data: bytes, start: int, stop: int, message: MessageType, names: _Names) -> Iterator[bytes]:
    numbers, position = names.numbers(message), start
    while position < stop:
        item = read_field(data, position, stop, "")
        position = item.stop
        known = message.fields_by_number.get(item.number)
        if known is None:  # what our schema does not know stays as it is
            yield data[item.tag_start : item.stop]
            continue
        tag = encode_tag(numbers[known.name], item.wire_type)
        if _is_translated(known):
            body = b"".join(_write(data, item.start, item.stop, known.message_type, names))
            yield tag + encode_varint(len(body)) + body
        elif known.enum_type is not None and item.wire_type == VARINT:
            yield tag + encode_varint(names.value_numbers(known.enum_type)[as_int32(item.value)])
        else:
            if item.wire_type == BYTES:
                tag += encode_varint(item.stop - item.start)
            yield tag
            yield data[item.start : item.stop]


def _is_translated(known: Any) -> bool:
    """Arrays have the same numbers everywhere."""
    return known.message_type is not None and known.message_type.name not in ("BlobProto", "BlobShape")
