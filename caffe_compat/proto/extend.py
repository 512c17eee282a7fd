"""Fields of Caffe's forks, added to our schema from a .proto text of the user."""

import itertools
import os
import re
import warnings
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from caffe_compat.errors import ProtoError, seen_from
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.fork_numbers import numbering_of
from caffe_compat.proto.schema import PACKAGE, Schema, load_caffe_schema
from caffe_compat.proto.schema_text import SCALARS, parse_schema

Field = descriptor_pb2.FieldDescriptorProto
_INTEGERS = {number for name, number in SCALARS.items() if "int" in name or "fixed" in name}
_FLOATS = (Field.TYPE_FLOAT, Field.TYPE_DOUBLE)
_FIRST_FREE_NUMBER = 20_000_000  # of fields and values whose own number is taken


def extend_schema(path: str | os.PathLike[str]) -> None:
    """Merge the messages, fields and enum values of a .proto file into the schema.

    A message that is known already is extended by the fields it lacks::

        message LayerParameter { optional MyParameter my_param = 200; }
        message MyParameter { optional float eps = 1 [default = 1e-5]; }

    A fork's whole caffe.proto does as it is.  What is known stays as it is: where the file has another default, type
    or value for it, one warning lists these.  A field or value whose number is taken gets a free one: a prototxt knows
    them by name.

    Binary nets whose numbers fit those of the file are read, and written, in these.

    All classes in ``caffe_pb2`` are replaced; messages made before stay usable on their own, and
    ``read_net`` converts them.  Raises ProtoError with ``file:line:`` for a syntax error or an
    unknown type.
    """
    name = os.fspath(path)
    try:
        # Only comments hold more than ASCII, and forks have them in any encoding.
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise ProtoError(f"{name}: cannot be read: {error.strerror}{seen_from(name)}") from None
    before = caffe_pb2.current_schema()
    merged, differences = merge_schema(before.file, text, name)
    numbering = numbering_of(parse_schema(text, name)[0])
    caffe_pb2.use_schema(Schema(merged, (numbering, *before.numberings)))
    if differences:
        warnings.warn(f"{name}: known otherwise here, and left so: {'; '.join(differences)}", stacklevel=2)


def added_fields(message: Message) -> list[str]:
    """What is set in a message, and in those inside it, that Caffe 1.0 does not know but a fork or ``--schema``:
    ``pooling_param.ceil_mode`` for a field, ``pooling_param.pool: SUM`` for the value of an enum."""
    return list(_added(message, ""))


def _added(message: Message, scope: str) -> Iterator[str]:
    known = load_caffe_schema().classes.get(message.DESCRIPTOR.full_name)
    if known is None or message.DESCRIPTOR.name == "BlobProto":  # arrays are read in every form
        return
    for field, value in message.ListFields():
        ours = known.DESCRIPTOR.fields_by_name.get(field.name)
        if ours is None:
            yield scope + field.name
            continue
        items: Any = [value] if isinstance(value, Message | int | float | str | bytes) else value
        if field.message_type is not None:
            for item in items:
                yield from _added(item, f"{scope}{field.name}.")
        elif field.enum_type is not None:
            names, numbers = field.enum_type.values_by_number, ours.enum_type and ours.enum_type.values_by_number
            yield from (f"{scope}{field.name}: {names[item].name}" for item in items if item not in (numbers or ()))


def merge_schema(
    base: descriptor_pb2.FileDescriptorProto, text: str, name: str
) -> tuple[descriptor_pb2.FileDescriptorProto, list[str]]:
    """A copy of ``base`` with what the .proto ``text`` adds, and what the text says otherwise than ``base``.

    ``name`` is its file, for errors.
    """
    extra, lines = parse_schema(text, name)
    merged = descriptor_pb2.FileDescriptorProto()
    merged.CopyFrom(base)
    types = _type_names(base)
    for dotted, values in _type_names(extra).items():
        types[dotted] = (types.get(dotted) or set()) | values if values is not None else None
    merger = _Merger(name, lines, types)
    merger.merge_scope(merged, extra, "")
    return merged, merger.differences


def _type_names(file: descriptor_pb2.FileDescriptorProto) -> dict[str, set[str] | None]:
    """Dotted name of every message and enum -> None for a message, the values' names for an enum."""
    found: dict[str, set[str] | None] = {}

    def visit(messages: Any, enums: Any, scope: str) -> None:
        found.update((scope + enum.name, {value.name for value in enum.value}) for enum in enums)
        for message in messages:
            found[scope + message.name] = None
            visit(message.nested_type, message.enum_type, f"{scope}{message.name}.")

    visit(file.message_type, file.enum_type, "")
    return found


def _range(field_type: int) -> range:
    """The numbers that an integer type holds."""
    name = Field.Type.Name(field_type)  # type: ignore[arg-type]
    bits = 64 if "64" in name else 32
    unsigned = "UINT" in name or name.startswith("TYPE_FIXED")
    return range(2**bits) if unsigned else range(-(2 ** (bits - 1)), 2 ** (bits - 1))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Merger:
    def __init__(self, name: str, lines: dict[str, int], types: dict[str, set[str] | None]) -> None:
        self.name, self.lines, self.types = name, lines, types
        self.differences: list[str] = []

    def fail(self, dotted: str, message: str) -> NoReturn:
        raise ProtoError(f"{self.name}:{self.lines[dotted]}: {message}")

    def merge_scope(self, target: Any, extra: Any, scope: str) -> None:
        """Messages and enums of a file, or of one message."""
        field = "message_type" if scope == "" else "nested_type"
        for message in getattr(extra, field):
            self.check_name(extra_kind="message", name=message.name, target=target, scope=scope)
            ours = next((m for m in getattr(target, field) if m.name == message.name), None)
            ours = ours or getattr(target, field).add(name=message.name)
            inner = f"{scope}{message.name}."
            self.merge_scope(ours, message, inner)
            for item in message.field:
                self.resolve_type(item, inner)
                self.check_default(item, inner)
                self.merge_field(ours, item, inner)
        for enum in extra.enum_type:
            self.check_name(extra_kind="enum", name=enum.name, target=target, scope=scope)
            if not enum.value:
                self.fail(scope + enum.name, f"enum {enum.name} has no values")
            ours = next((e for e in target.enum_type if e.name == enum.name), None)
            ours = ours or target.enum_type.add(name=enum.name)
            for value in enum.value:
                self.check_value_name(value.name, enum.name, target, scope)
                self.merge_value(ours, value, f"{scope}{enum.name}.")

    def check_name(self, *, extra_kind: str, name: str, target: Any, scope: str) -> None:
        """A message and an enum of one scope cannot share a name."""
        others = (
            target.enum_type if extra_kind == "message" else getattr(target, "nested_type" if scope else "message_type")
        )
        if any(other.name == name for other in others):
            there = "an enum" if extra_kind == "message" else "a message"
            self.fail(scope + name, f"{name} is {there} already; name the {extra_kind} otherwise")

    def check_value_name(self, name: str, enum_name: str, target: Any, scope: str) -> None:
        """Values of enums stand beside their enum, so that those of two enums in one scope cannot share a name."""
        for other in target.enum_type:
            if other.name != enum_name and any(value.name == name for value in other.value):
                self.fail(
                    f"{scope}{enum_name}.{name}",
                    f"{name} is a value of enum {scope}{other.name} already; name the one of {enum_name} otherwise",
                )

    def resolve_type(self, field: Any, scope: str) -> None:
        """Turn a type name as written into the absolute one, looked up from the inside out."""
        if not field.type_name:
            return
        written = field.type_name.removeprefix(".").removeprefix(f"{PACKAGE}.")
        parts = scope.split(".")[:-1]
        candidates = [".".join([*parts[:n], written]) for n in range(len(parts), -1, -1)]
        found = next((c for c in candidates if c in self.types), None)
        if found is None:
            self.fail(scope + field.name, f'unknown type {written} of field "{field.name}"; define the message too')
        field.type = Field.TYPE_MESSAGE if self.types[found] is None else Field.TYPE_ENUM
        field.type_name = f".{PACKAGE}.{found}"

    def check_default(self, field: Any, scope: str) -> None:
        """protobuf would refuse a wrong default too, but without a line."""
        text, fits = field.default_value, True
        if field.type == Field.TYPE_ENUM:
            fits = text in (self.types[field.type_name.removeprefix(f".{PACKAGE}.")] or ())
        elif field.type == Field.TYPE_BOOL:
            fits = text in ("true", "false")
        elif field.type in _INTEGERS:
            fits = re.fullmatch(r"-?\d+", text) is not None and int(text) in _range(field.type)
        elif field.type in _FLOATS:
            fits = _is_number(text)
        elif field.type == Field.TYPE_MESSAGE:
            fits = False
        if field.label == Field.LABEL_REPEATED:
            fits = False
        if field.HasField("default_value") and not fits:
            self.fail(scope + field.name, f'default {text} does not fit the type of field "{field.name}"')

    def merge_field(self, message: Any, field: Any, scope: str) -> None:
        ours = next((known for known in message.field if known.name == field.name), None)
        if ours is not None:
            self.compare(ours, field, scope + field.name)
            return
        added = message.field.add()
        taken = {known.number for known in message.field}
        added.CopyFrom(field)
        added.number = _free_number(field.number, taken)

    def compare(self, ours: Any, field: Any, place: str) -> None:
        """Take down where a field differs from the one that is known."""
        if (ours.type, ours.type_name) != (field.type, field.type_name):
            self.differences.append(f"{place} is {_type_of(field)} there and {_type_of(ours)} here")
        elif field.label == Field.LABEL_REPEATED and ours.label != field.label:
            self.differences.append(f"{place} takes several values there and one here")
        elif _default(ours) != _default(field):
            self.differences.append(f"{place} has the default {_default(field)} there and {_default(ours)} here")

    def merge_value(self, enum: Any, value: Any, scope: str) -> None:
        ours = next((known for known in enum.value if known.name == value.name), None)
        if ours is None:
            taken = {known.number for known in enum.value}
            enum.value.add(name=value.name, number=_free_number(value.number, taken))
        elif ours.number != value.number:
            self.differences.append(f"{scope}{value.name} is {value.number} there and {ours.number} here")


def _free_number(number: int, taken: Collection[int]) -> int:
    """The number itself, or the first free one of ours."""
    if number not in taken:
        return number
    return next(free for free in itertools.count(_FIRST_FREE_NUMBER) if free not in taken)


def _type_of(field: Any) -> str:
    return field.type_name.removeprefix(f".{PACKAGE}.") or Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def _default(field: Any) -> str:
    """The value of a field that is not set, as protobuf reads it."""
    if field.type in _FLOATS:
        return repr(float(field.default_value or 0)).removesuffix(".0")
    zero = {Field.TYPE_STRING: '""', Field.TYPE_BOOL: "false", Field.TYPE_ENUM: "the first"}.get(field.type, "0")
    return field.default_value or zero
