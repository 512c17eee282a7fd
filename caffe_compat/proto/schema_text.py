"""A parser for the part of the proto2 language that Caffe and its forks use; no protoc needed."""

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from google.protobuf import descriptor_pb2
from google.protobuf.text_encoding import CUnescape

from caffe_compat.errors import ProtoError

Field = descriptor_pb2.FieldDescriptorProto

_INT32, _INT32_CHARACTERS = 2**31, 11
_LAST_FIELD_NUMBER = 2**29 - 1
_LABELS = {
    "optional": Field.LABEL_OPTIONAL,
    "required": Field.LABEL_REQUIRED,
    "repeated": Field.LABEL_REPEATED,
}
#: int32, float, string, bool, ... -> the enum value
SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in Field.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
_FLOATS = (Field.TYPE_FLOAT, Field.TYPE_DOUBLE)

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))
    |(?P<name>-?[A-Za-z_.][\w.]*)
    |(?P<sign>[{}()\[\]=;,<>])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass
class _Token:
    text: str
    kind: str
    line: int


def parse_schema(text: str, name: str) -> tuple[descriptor_pb2.FileDescriptorProto, dict[str, int]]:
    """The descriptor of a .proto text, and the line of each message, enum and field by dotted name.

    ``extend M { ... }`` counts as more fields of ``message M``.  Names of message and enum types
    stay as written, without ``type``.  Raises ProtoError with ``name:line:``.
    """
    parser = _Parser(text, name)
    parser.parse_file()
    return parser.file, parser.lines


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.file = descriptor_pb2.FileDescriptorProto(name=name)
        self.lines: dict[str, int] = {}
        self.tokens = self._tokenize(text)
        self.position = 0

    def _tokenize(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise ProtoError(f"{self.name}:{line}: unexpected {text[position]!r}")
            if match.lastgroup != "skip":
                tokens.append(_Token(match[0], match.lastgroup, line))
            line += match[0].count("\n")
            position = match.end()
        return [*tokens, _Token("end of file", "end", line)]

    # -- tokens ------------------------------------------------------------------------------

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self, *texts: str, kind: str = "") -> str:
        """The next token, which must be one of ``texts`` or of this kind."""
        token = self.next
        if (texts and token.text not in texts) or (kind and token.kind != kind) or token.kind == "end":
            self.fail(f"expected {' or '.join(repr(t) for t in texts) or 'a ' + kind}, got {token.text!r}")
        self.position += 1
        return token.text

    def accept(self, text: str) -> bool:
        """Take the next token if it is ``text``."""
        found = self.next.text == text and self.next.kind != "string"
        self.position += found
        return found

    def fail(self, message: str) -> NoReturn:
        raise ProtoError(f"{self.name}:{self.next.line}: {message}")

    def skip_statement(self) -> None:
        while self.take() != ";":
            pass

    # -- grammar -----------------------------------------------------------------------------

    def parse_file(self) -> None:
        while self.next.kind != "end":
            word = self.next.text
            if word in ("syntax", "package"):
                self._check_header(word)
            elif word in ("message", "extend"):
                self.parse_message(self.file.message_type, "")
            elif word == "enum":
                self.parse_enum(self.file.enum_type, "")
            elif word == "option":
                self.skip_statement()
            elif not self.accept(";"):
                self.fail(f"expected message, extend or enum, got {word!r}")

    def _check_header(self, word: str) -> None:
        self.take()
        self.accept("=")
        value, expected = self.take().strip("\"'"), {"syntax": "proto2", "package": "caffe"}[word]
        if value != expected:
            self.fail(f"{word} is {value}; expected {expected}")
        self.take(";")

    def parse_message(self, messages: Any, scope: str) -> None:
        """``message M { ... }`` or ``extend M { ... }``."""
        self.take("message", "extend")
        line, name = self.next.line, self.take(kind="name").removeprefix(".").removeprefix("caffe.")
        self.lines.setdefault(scope + name, line)
        message = next((m for m in messages if m.name == name), None) or messages.add(name=name)
        inner = f"{scope}{name}."
        self.take("{")
        while not self.accept("}"):
            word = self.next.text
            if word in _LABELS:
                self.parse_field(message, inner)
            elif word == "message":
                self.parse_message(message.nested_type, inner)
            elif word == "enum":
                self.parse_enum(message.enum_type, inner)
            elif word in ("option", "reserved", "extensions"):
                self.skip_statement()
            elif not self.accept(";"):
                self.fail(f"expected optional, required, repeated, message or enum in {name}, got {word!r}")

    def parse_field(self, message: Any, scope: str) -> None:
        """``optional float x = 3 [default = 1];``"""
        field = message.field.add(label=_LABELS[self.take()])
        type_name = self.take(kind="name")
        if type_name in SCALARS:
            field.type = SCALARS[type_name]
        else:
            field.type_name = type_name
        line, field.name = self.next.line, self.take(kind="name")
        self.lines[scope + field.name] = line
        self.take("=")
        field.number = self.parse_field_number()
        if self.accept("["):
            self.parse_field_option(field)
            while self.take(",", "]") == ",":
                self.parse_field_option(field)
        self.take(";")

    def parse_field_option(self, field: Any) -> None:
        option = self.take(kind="name")
        self.take("=")
        if option == "default":
            field.default_value = self.parse_default(field)
        elif option == "packed":
            field.options.packed = self.take("true", "false") == "true"
        else:
            self.take()  # deprecated and the like

    def parse_default(self, field: Any) -> str:
        if self.next.kind == "string":
            parts = []
            while self.next.kind == "string":
                parts.append(self.take()[1:-1])
            return CUnescape("".join(parts)).decode("utf-8", "replace")
        text = self.take()
        if field.HasField("type") and field.type in _FLOATS:
            try:
                return repr(float(text)).removesuffix(".0")
            except ValueError:
                self.fail(f"default {text!r} is no number")
        return str(int(text, 0)) if re.fullmatch(r"-?(\d+|0[xX][0-9a-fA-F]+)", text) else text

    def parse_enum(self, enums: Any, scope: str) -> None:
        """``enum E { A = 0; ... }``"""
        self.take("enum")
        line, name = self.next.line, self.take(kind="name")
        self.lines.setdefault(scope + name, line)
        enum = next((e for e in enums if e.name == name), None) or enums.add(name=name)
        self.take("{")
        while not self.accept("}"):
            if self.next.text in ("option", "reserved"):
                self.skip_statement()
            elif not self.accept(";"):
                value = enum.value.add()
                line, value.name = self.next.line, self.take(kind="name")
                self.lines[f"{scope}{name}.{value.name}"] = line
                self.take("=")
                value.number = self.parse_integer()
                if self.accept("["):
                    while self.take() != "]":
                        pass
                self.take(";")

    def parse_integer(self) -> int:
        text = self.next.text
        if not re.fullmatch(r"-?(\d+|0[xX][0-9a-fA-F]+)", text):
            self.fail(f"expected a whole number, got {text!r}")
        number = int(text, 16 if "x" in text.lower() else 10) if len(text) <= _INT32_CHARACTERS else _INT32
        if not -_INT32 <= number < _INT32:
            self.fail(f"expected a number of 32 bits, got {text[:20]}")
        self.take()
        return number

    def parse_field_number(self) -> int:
        number = self.parse_integer()
        if not 1 <= number <= _LAST_FIELD_NUMBER:
            self.fail(f"field number {number}; expected 1 to {_LAST_FIELD_NUMBER}")
        return number
