"""Damage to inputs: blind, and by the form of the input, so that it reaches what lies behind the first check."""

import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from caffe_compat.errors import ProtoError
from caffe_compat.proto.wire import BYTES, FIXED32, FIXED64, VARINT, encode_tag, encode_varint, read_field

Mutation = Callable[[bytes, Random], bytes]

MAX_BYTES = 1 << 18  # what grows by splices and repeats is cut here
_EXTREMES = [n + d for n in (0, 2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**40, 2**63, 2**64) for d in (-1, 0, 1)]
_ODD_NUMBERS = ["-2", "1e9", "-1e9", "1e400", "nan", "-inf", "0x7fffffff", "010", "1.2.3", "...", "9" * 5000]
_NUMBERS = [*map(str, _EXTREMES), *_ODD_NUMBERS]
_WORDS = [b"\x00", b"\xff\xfe", b"\x1b[2J", b"\n", b"\r", b'"', b"{", b"}", b" ", b"-", b"..", b"/", b"\xe9", b"\\x"]
_TEXT_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_WORD = re.compile(rb"\w+")
_VALUES: list[Any] = [None, True, 0, -1, 2**31, 2**64, 1e308, float("nan"), "", "x", "\ud800", [], {}, [[]], {"": 0}]


def mutate(data: bytes, form: str, others: Sequence[bytes], rng: Random) -> bytes:
    """``data`` with one to four of the form's mutations, or blind ones, or a splice with one of ``others``."""
    for _ in range(rng.choice([1, 1, 1, 2, 2, 4])):
        choice = rng.random()
        if choice < 0.1:
            data = _splice(data, rng.choice(others), rng)
        elif choice < 0.5 or form not in FORMS:
            data = rng.choice(BLIND)(data, rng)
        else:
            data = FORMS[form](data, rng)
    return data[:MAX_BYTES]


# -- blind -------------------------------------------------------------------------------


def _span(data: bytes, rng: Random, most: int = 64) -> slice:
    start = rng.randrange(len(data) + 1)
    return slice(start, start + rng.randint(1, rng.choice([1, 4, most, len(data) + 1])))


def _flip(data: bytes, rng: Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8]) if data else 0):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(data: bytes, rng: Random) -> bytes:
    span = _span(data, rng)
    return data[: span.start] + data[span.stop :]


def _repeat(data: bytes, rng: Random) -> bytes:
    span = _span(data, rng)
    return data[: span.start] + data[span] * rng.choice([2, 2, 3, 100]) + data[span.stop :]


def _insert(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice([*_WORDS, rng.randbytes(rng.randint(1, 16))]) + data[place:]


def _fill(data: bytes, rng: Random) -> bytes:
    span = _span(data, rng)
    return data[: span.start] + rng.choice([b"\0", b"\xff"]) * len(data[span]) + data[span.stop :]


def _number(data: bytes, rng: Random) -> bytes:
    """An extreme number at a place where a file's number may stand."""
    size = rng.choice([1, 2, 4, 8])
    place = rng.randrange(0, max(1, len(data)), rng.choice([1, size]))
    value = rng.choice(_EXTREMES) % (1 << 8 * size)
    return data[:place] + value.to_bytes(size, rng.choice(["little", "big"])) + data[place + size :]


def _splice(data: bytes, other: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


BLIND: list[Mutation] = [_flip, _flip, _truncate, _delete, _repeat, _insert, _fill, _number, _number]


# -- by form -----------------------------------------------------------------------------


def text(data: bytes, rng: Random) -> bytes:
    """A number, a word, a line or the nesting of a text."""
    choice = rng.randrange(6)
    lines = data.splitlines(keepends=True)
    if choice <= 1:
        return _replace(_TEXT_NUMBER, data, rng, rng.choice(_NUMBERS).encode())
    if choice == 2:
        words = _WORD.findall(data) or [b"x"]
        return _replace(_WORD, data, rng, rng.choice([*words, *_WORDS]))
    if choice == 3 and lines:
        number = rng.randrange(len(lines))
        return b"".join(lines[:number] + [lines[number]] * rng.choice([0, 2, 50]) + lines[number + 1 :])
    if choice == 4 and lines:
        rng.shuffle(lines)
        return b"".join(lines)
    opening, closing = rng.choice([(b"{", b"}"), (b"x {", b"}"), (b"[", b"]"), (b"<", b">"), (b"/*", b"")])
    depth, place = rng.choice([1, 200, 20000]), rng.randrange(len(data) + 1)
    return data[:place] + opening * depth + closing * depth + data[place:]


def _replace(pattern: re.Pattern[bytes], data: bytes, rng: Random, new: bytes) -> bytes:
    found = list(pattern.finditer(data))
    if not found:
        return data + new
    match = rng.choice(found)
    return data[: match.start()] + new + data[match.end() :]


Tree = list[tuple[int, int, Any]]  # a message: number, wire type, and an int, bytes or another Tree


def wire(data: bytes, rng: Random) -> bytes:
    """A field of a protobuf message, at any depth; all lengths around it are right."""
    tree = _parse(data, 0)
    if not tree:
        return _flip(data, rng)
    message = tree
    while True:
        at = rng.randrange(len(message))
        number, wire_type, value = message[at]
        if not isinstance(value, list) or not value or rng.random() < 0.15:
            break
        message = value
    choice = rng.randrange(7)
    if choice == 0:
        message[at : at + 1] = [message[at]] * rng.choice([0, 2, 100])
    elif choice == 1:
        message[at] = (rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 100, 147, 148, 2**28]), wire_type, value)
    elif choice == 2:
        message[at] = (number, VARINT, rng.choice(_EXTREMES) & (2**64 - 1))
    elif choice == 3:
        message[at] = (number, BYTES, rng.choice([b"", b"\xff", b"x" * 70000, rng.randbytes(8)]))
    elif choice == 4:
        nested: Any = value
        for _ in range(rng.choice([1, 50, 200])):
            nested = [(number, BYTES, nested if isinstance(nested, list | bytes) else b"")]
        message[at] = (number, BYTES, nested)
    elif choice == 5:
        message.insert(rng.randrange(len(message) + 1), rng.choice(message))
    elif isinstance(value, bytes) and value:
        message[at] = (number, wire_type, rng.choice(BLIND)(value, rng))
    else:
        message[at] = (number, rng.choice([FIXED32, FIXED64]), rng.choice(_EXTREMES) & (2**32 - 1))
    return _serialize(tree)


def _parse(data: bytes, depth: int) -> Tree | None:
    """None for what is no message."""
    fields: Tree = []
    position = 0
    try:
        while position < len(data):
            field = read_field(data, position, len(data), "")
            position = field.stop
            value: Any = field.value
            if field.wire_type == BYTES:
                inside = data[field.start : field.stop]
                value = (depth < 8 and inside and _parse(inside, depth + 1)) or inside
            elif field.wire_type != VARINT:
                value = int.from_bytes(data[field.start : field.stop], "little")
            fields.append((field.number, field.wire_type, value))
    except ProtoError:
        return None
    return fields


def _serialize(tree: Tree) -> bytes:
    out = bytearray()
    for number, wire_type, value in tree:
        out += encode_tag(number, wire_type)
        if isinstance(value, list | bytes):
            inside = _serialize(value) if isinstance(value, list) else value
            out += encode_varint(len(inside)) + inside
        elif wire_type == VARINT:
            out += encode_varint(value)
        else:
            out += (value & (2**64 - 1)).to_bytes(8, "little")[: 4 if wire_type == FIXED32 else 8]
        if len(out) > MAX_BYTES:
            break
    return bytes(out)


def json_value(data: bytes, rng: Random) -> bytes:
    """A value of a JSON text, of whatever type stands there or another."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return text(data, rng)
    homes: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            homes.append((value, key))
            visit(value[key])

    visit(document)
    if not homes or rng.random() < 0.05:
        return rng.choice([b"[" * 100000, b"null", b"1" * 5000, json.dumps(rng.choice(_VALUES)).encode()])
    home, key = rng.choice(homes)
    choice = rng.randrange(4)
    if choice == 0:
        del home[key]
    elif choice == 1:
        home[key] = rng.choice(homes)[0]
    elif choice == 2 and isinstance(home[key], str):
        home[key] = rng.choice(BLIND)(home[key].encode(errors="replace"), rng).decode("latin-1")
    else:
        home[key] = rng.choice(_VALUES)
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):  # it now holds itself
        return data


def json_lines(data: bytes, rng: Random) -> bytes:
    """One line of a file of JSON lines."""
    lines = data.splitlines() or [b"{}"]
    number = rng.randrange(len(lines))
    lines[number] = json_value(lines[number], rng)
    return b"\n".join(lines) + b"\n"


def resume(data: bytes, rng: Random) -> bytes:
    """A value of a .resume file, whose digest is right again."""
    return signed(json_value(data, rng))


def signed(data: bytes) -> bytes:
    """A .resume text with the digest that belongs to it, where it is one."""
    try:
        document = json.loads(data)
        document.pop("sha256", None)
        plain = json.dumps(document)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return data
    return f'{{"sha256": "{hashlib.sha256(plain.encode()).hexdigest()}", {plain[1:]}'.encode()


def zipped(data: bytes, rng: Random) -> bytes:
    """The bytes of a member of a zip file, whose check sum is right again; or a member is gone, or another."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = {info.filename: file.read(info) for info in file.infolist()}
    except Exception:  # of many types
        return _flip(data, rng)
    if not members:
        return _flip(data, rng)
    name = rng.choice(list(members))
    choice = rng.randrange(8)
    if choice == 0:
        del members[name]
    elif choice == 1:
        members[name] = rng.choice(list(members.values()))
    else:
        members[name] = rng.choice([text, *BLIND])(members[name], rng)
    out = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(out, "w", rng.choice(methods)) as file:
        for member, content in members.items():
            file.writestr(zipfile.ZipInfo(member), content, file.compression)  # without today's date
    return out.getvalue()


def gzipped(data: bytes, rng: Random) -> bytes:
    """What a gz file holds; now and then so much of it that no memory takes it."""
    if rng.random() < 0.02:
        return gzip.compress(bytes(1 << 24)) * 70
    try:
        inside = gzip.decompress(data)
    except (OSError, EOFError, ValueError, zlib.error):
        return _flip(data, rng)
    return gzip.compress(rng.choice([text, *BLIND])(inside[:MAX_BYTES], rng))


def safetensors(data: bytes, rng: Random) -> bytes:
    """The JSON in front of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if not 0 < size < len(data):
        return _flip(data, rng)
    head = json_value(data[8 : 8 + size], rng)
    return len(head).to_bytes(8, "little") + head + data[8 + size :]


def npy(data: bytes, rng: Random) -> bytes:
    """The head of a .npy file, a Python dict, whose length is right again."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10:
        return _flip(data, rng)
    size = int.from_bytes(data[8:10], "little")
    head = text(data[10 : 10 + size], rng)
    return data[:8] + (len(head) & 0xFFFF).to_bytes(2, "little") + head + data[10 + size :]


FORMS: dict[str, Mutation] = {
    "text": text,
    "wire": wire,
    "json": json_value,
    "json lines": json_lines,
    "resume": resume,
    "zip": zipped,
    "gzip": gzipped,
    "safetensors": safetensors,
    "npy": npy,
}
