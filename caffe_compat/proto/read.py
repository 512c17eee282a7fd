"""Messages from text and binary files, with errors that name the line."""

import difflib
import os
import re
import warnings
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message

from caffe_compat.errors import ProtoError, printable, seen_from
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.fork_files import translate_net
from caffe_compat.proto.forks import fork_of_field
from caffe_compat.proto.performance import ignore_performance_fields
from caffe_compat.proto.schema import load_caffe_schema, load_schema
from caffe_compat.proto.source import FilePath, Source
from caffe_compat.proto.unknown_names import Unknown, UnknownNamesError, listed, unknown_names
from caffe_compat.proto.upgrade import upgrade_net, upgrade_net_logged, upgrade_solver

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BOM_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # never in text, always in a message of any size
_SNIFFED_BYTES = 1 << 16
_STRING_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|#[^\n]*""")

Form = Literal["auto", "text", "binary"]
AnyMessage = TypeVar("AnyMessage", bound=Message)


def read_net(source: FilePath | caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """An upgraded NetParameter from a path (prototxt or caffemodel) or a message, which stays as it was.

    Raises ProtoError for anything that Caffe would refuse, with ``file:line:`` in front.
    """
    return read_net_with_source(source)[0]


def read_net_with_source(source: FilePath | caffe_pb2.NetParameter) -> tuple[caffe_pb2.NetParameter, Source]:
    """Like ``read_net``; also the Source that turns layer names into ``file:line`` for errors."""
    if not isinstance(source, str | os.PathLike):
        net, place = copy_message(source, caffe_pb2.NetParameter()), Source()
    else:
        net, place = read_message_with_source(source, caffe_pb2.NetParameter())
    _settle_fork_fields(net, place.name)
    upgrade_net(net, place)
    return net, place


def parse_net(text: str, name: str = "<text>") -> caffe_pb2.NetParameter:
    """An upgraded NetParameter from prototxt text; ``name`` stands for the file in errors."""
    net = parse_message(text, caffe_pb2.NetParameter(), name)
    _settle_fork_fields(net, name)
    upgrade_net(net, Source(name, text))
    return net


def read_solver(source: FilePath | caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """An upgraded SolverParameter from a path or a message, which stays as it was.  Raises ProtoError.

    As in Caffe, a file's missing snapshot_prefix becomes the path without its suffix, and one that is a folder gets
    the file's stem appended.
    """
    if not isinstance(source, str | os.PathLike):
        solver = copy_message(source, caffe_pb2.SolverParameter())
        _settle_fork_fields(solver, "<message>")
        upgrade_solver(solver)
        return solver
    solver, place = read_message_with_source(source, caffe_pb2.SolverParameter())
    _settle_fork_fields(solver, place.name)
    upgrade_solver(solver, place)
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = os.path.splitext(os.fspath(source))[0]
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.splitext(os.path.basename(source))[0])
    return solver


def read_message(path: FilePath, message: AnyMessage, form: Form = "auto") -> AnyMessage:
    """Fill ``message`` (an empty one of any type) from a text or binary file and return it.

    Nothing is upgraded.  ``form`` "auto" looks at the name's ending and the bytes.  Raises ProtoError.
    """
    return read_message_with_source(path, message, form)[0]


def parse_message(text: str, message: AnyMessage, name: str = "<text>") -> AnyMessage:
    """Fill ``message`` from prototxt text and return it; ProtoError with ``name:line:``."""
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _refusal(error, text, message, name) from None
    _check_required(message, name)
    return message


def copy_message(original: Message, message: AnyMessage) -> AnyMessage:
    """Fill ``message`` from one of the same type and return it.

    ``original`` may be of another schema: one from before ``extend_schema``, or Caffe's own.
    """
    expected = message.DESCRIPTOR.full_name
    if not isinstance(original, Message) or original.DESCRIPTOR.full_name != expected:
        kind = original.DESCRIPTOR.full_name if isinstance(original, Message) else type(original).__name__
        raise ProtoError(f"<message>: expected a path or a {expected} message, got {kind}")
    if isinstance(original, type(message)):
        message.CopyFrom(original)
    else:
        message.MergeFromString(original.SerializePartialToString())
    _check_strings(message, "<message>")
    return message


def is_hdf5(path: FilePath) -> bool:
    """True when the file starts like an HDF5 file.  Raises ProtoError when it cannot be read."""
    return read_bytes(path, len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def read_bytes(path: FilePath, limit: int = -1) -> bytes:
    """The first ``limit`` bytes of a file (all for -1); ProtoError with the system's reason."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError as error:
        raise ProtoError(f"{os.fspath(path)}: cannot be read: {error.strerror}{seen_from(path)}") from None


def read_message_with_source(path: FilePath, message: AnyMessage, form: Form = "auto") -> tuple[AnyMessage, Source]:
    """Like ``read_message``; also the Source that names places in the file for errors."""
    name = os.fspath(path)
    data = read_bytes(path)
    kind = message.DESCRIPTOR.name
    if not data:
        raise ProtoError(f"{name}: the file is empty; expected a {kind}")
    if data.startswith(HDF5_SIGNATURE):
        raise ProtoError(f"{name}: is an HDF5 file; expected a {kind} as text or protobuf")
    if form == "text" or (form == "auto" and (name.endswith(".prototxt") or is_text(data))):
        text = _decode(data, name, kind)
        return parse_message(text, message, name), Source(name, text)
    if kind == "NetParameter":
        data = translate_net(data, name)
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        if is_text(data):
            raise ProtoError(f"{name}: is not a {kind}: it is text, and no protobuf message") from None
        raise ProtoError(f"{name}: is not a {kind}: the bytes are no protobuf message, or cut short") from None
    _check_strings(message, name)
    _leave_out_clashes(message, name)
    _check_required(message, name)
    return message, Source(name)


def is_text(data: bytes) -> bool:
    """True when the first bytes of a file look like text, not like a message."""
    return data.startswith(_BOM_UTF16) or not _CONTROL.search(data[:_SNIFFED_BYTES])


def _decode(data: bytes, name: str, kind: str) -> str:
    if data.startswith(_BOM_UTF16):
        raise ProtoError(f"{name}: is UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    # Caffe never looks into comments, and many old files have Latin-1 or GBK ones.
    text = data.decode("utf-8", "surrogateescape")
    text = _STRING_OR_COMMENT.sub(lambda match: match[1] or "", text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if not is_text(data):
            raise ProtoError(f"{name}: is a binary file; expected a {kind} as text") from None
        line = text.count("\n", 0, error.start) + 1
        byte = ord(text[error.start]) & 0xFF
        raise ProtoError(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
    return text


def _check_strings(message: Message, place: str) -> None:
    """Raise ProtoError for a string that is not UTF-8; protobuf hands these out as bytes."""
    for field, value in message.ListFields():
        values: Iterable[Any] = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_STRING and not all(isinstance(item, str) for item in values):
            raise ProtoError(f"{place}: {field.name} of a {message.DESCRIPTOR.name} is not UTF-8: {value!r}")
        if field.message_type is not None and field.message_type.name != "BlobProto":
            for child in values:
                _check_strings(child, place)


#: fields of forks that the solver reads: SSD's average precision
_READ_FIELDS = {"SolverParameter": ("eval_type", "ap_version", "show_per_class_result")}


def _settle_fork_fields(message: Message, name: str) -> None:
    """Take out what only says how a fork computes.  ProtoError for other fields that forks added to NetParameter or
    SolverParameter itself; layers see to their own.
    """
    ignore_performance_fields(message, name)
    kind = message.DESCRIPTOR.name
    caffes, forks = (s.names[kind].DESCRIPTOR.fields_by_name for s in (load_caffe_schema(), load_schema()))
    for field, _ in message.ListFields():
        if field.name in forks and field.name not in caffes and field.name not in _READ_FIELDS.get(kind, ()):
            raise ProtoError(
                f"{name}: {field.name} is no field of Caffe 1.0 but of a fork, and nothing here reads it in a {kind}; "
                "remove it"
            )


def _leave_out_clashes(message: Message, name: str) -> None:
    """Forks have other fields under the number of clip_param (148), whose own fields are required."""
    layers: Iterable[caffe_pb2.LayerParameter] = getattr(message, "layer", ())
    for layer in layers if message.DESCRIPTOR.name == "NetParameter" else ():
        if layer.type != "Clip" and layer.HasField("clip_param") and not layer.clip_param.IsInitialized():
            layer.ClearField("clip_param")
            warnings.warn(
                f"{Source(name).layer(layer.name)} ({printable(layer.type)}): field 148 is no clip_param but a fork's; "
                "left out",
                stacklevel=2,
            )


def _check_required(message: Message, name: str) -> None:
    # Every message class has this method, but the base class that is known to type checkers.
    missing: list[str] = getattr(message, "FindInitializationErrors")()  # noqa: B009
    if missing:
        raise ProtoError(f"{name}: required field {missing[0]} is missing")


# -- what the text parser says, in our words ---------------------------------------------------

_NO_FIELD = re.compile(r'Message type "caffe\.([\w.]+)" has no field named "(\w+)"')
_TWICE = re.compile(r'Message type "caffe\.([\w.]+)" should not have multiple "(\w+)" fields')
_NO_VALUE = re.compile(r'Enum type "caffe\.([\w.]+)" has no value named "?(\w+)"?')


def _refusal(error: text_format.ParseError, text: str, message: Message, name: str) -> ProtoError:
    """The error itself; where it is about a name that is unknown, one about all such names of the text."""
    explained, said = _explain(error, text, name), str(error)
    if not (_NO_FIELD.search(said) or _NO_VALUE.search(said)):
        return ProtoError(explained)
    by_name: dict[tuple[str, str], list[Unknown]] = {}
    for item in unknown_names(text, message.DESCRIPTOR):
        by_name.setdefault((item.owner, item.name), []).append(item)
    by_fork: dict[str, list[str]] = {}
    for (owner, field), items in by_name.items():
        fork = fork_of_field(field, owner)
        close = "" if fork or items[0].is_value else _close_names(owner, field)
        by_fork.setdefault(fork or "no fork known here", []).append(listed(items, close))
    grouped = "; ".join(f"of {fork}: {', '.join(items)}" for fork, items in by_fork.items())
    if len(by_name) > 1:
        explained = (
            f"{name}: {len(by_name)} fields and values that are unknown here: {grouped}; for those of a fork pass its "
            "caffe.proto with --schema, others are misspelt or in the wrong block"
        )
    return UnknownNamesError(explained, _known_part(text, message, name), grouped)


def _known_part(text: str, message: Message, name: str) -> Message | None:
    """The upgraded net of a text without what is unknown in it; None where that is no net."""
    if not isinstance(message, caffe_pb2.NetParameter):
        return None
    net = caffe_pb2.NetParameter()
    try:
        text_format.Parse(text, net, allow_unknown_field=True)
        upgrade_net_logged(net, Source(name, text))
    except (text_format.ParseError, ProtoError, RecursionError):  # unknown blocks can be nested as deep as one likes
        return None
    return net


def _close_names(owner: str, field: str) -> str:
    message = caffe_pb2.current_schema().classes.get(f"caffe.{owner}")
    close = difflib.get_close_matches(field, message.DESCRIPTOR.fields_by_name, n=1) if message else []
    return f"; did you mean {close[0]}?" if close else ""


def _explain(error: text_format.ParseError, text: str, name: str) -> str:
    said = str(error)
    line = error.GetLine()
    place = f"{name}:{line}" if line else name
    if match := _NO_FIELD.search(said):
        return f'{place}: message "{match[1]}" has no field "{match[2]}"; {_advise_field(match[1], match[2])}'
    if match := _TWICE.search(said):
        return f'{place}: field "{match[2]}" of message "{match[1]}" is given twice; it takes one value'
    if match := _NO_VALUE.search(said):
        return f'{place}: enum "{match[1]}" has no value {match[2]}; {_advise_value(match[1], match[2])}'
    lines = text.rstrip().splitlines()
    source_line = lines[line - 1] if line and line <= len(lines) else ""
    reason = printable(said.split(" : ", 1)[-1].removeprefix(f"'{source_line}': ").rstrip("."))
    hint = ""
    if "Expected string" in said and re.search(r"\btype\s*:\s*[A-Z]", source_line):
        hint = '; a layer { } names its type in quotes (type: "Convolution"), the old layers { } by enum'
    elif line and line >= len(lines) and 'Expected "}"' in said:
        hint = "; the file ends inside a block: a closing brace is missing"
    return f"{place}: {reason[0].lower()}{reason[1:]}{hint}"


def _advise_field(message: str, field: str) -> str:
    fork = fork_of_field(field, message)
    if fork:
        return f"it looks like a field of {fork}: pass its definition with --schema extra.proto"
    descriptor = getattr(caffe_pb2, message).DESCRIPTOR
    homes = _messages_with(field, load_caffe_schema().descriptor) or _messages_with(field, caffe_pb2.DESCRIPTOR)
    if homes:
        return f"it is a field of {', '.join(homes[:4])}: is it in the wrong block or file?"
    close = difflib.get_close_matches(field, descriptor.fields_by_name, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    names = list(descriptor.fields_by_name)
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"expected one of {listed}; for a field of a fork pass --schema extra.proto"


def _messages_with(field: str, file: FileDescriptor) -> list[str]:
    messages = file.message_types_by_name.values()
    return [m.name for m in messages if field in m.fields_by_name and not m.name.startswith(("V0", "V1"))]


def _advise_value(enum: str, value: str) -> str:
    message, _, enum_name = enum.rpartition(".")
    owner = getattr(caffe_pb2, message).DESCRIPTOR.enum_types_by_name if message else None
    descriptor = owner[enum_name] if owner else caffe_pb2.DESCRIPTOR.enum_types_by_name[enum]
    names = list(descriptor.values_by_name)
    if enum == "V1LayerParameter.LayerType":
        names = difflib.get_close_matches(value.upper(), names, n=3) or names[:8]
        return f'expected {" or ".join(names)}, or the form layer {{ type: "..." }}'
    return f"expected one of {', '.join(names)}"
