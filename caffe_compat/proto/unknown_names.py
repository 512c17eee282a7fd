"""All fields and enum values of a prototxt that the schema does not know, not only the first one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from caffe_compat.errors import ProtoError

_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[-+]?[\w.]+|\S|\n""")
_MOST_LINES = 3  # of one name in a message


class UnknownNamesError(ProtoError):
    """A prototxt with names that the schema does not know.

    ``net``: what is left of a NetParameter without them, upgraded where it can be; ``said``: the names by fork.
    """

    def __init__(self, message: str, net: Any = None, said: str = "") -> None:
        super().__init__(message)
        self.net, self.said = net, said


class Unknown(NamedTuple):
    """A field that ``owner`` (a message) lacks, or a value that ``owner`` (an enum) lacks, and where it stands."""

    owner: str
    name: str
    line: int
    is_value: bool


@dataclass
class _Scan:
    tokens: list[tuple[str, int]]
    position: int = 0

    def next(self) -> tuple[str, int]:
        self.position += 1
        return self.tokens[self.position - 1]

    def peek(self) -> str:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""


def unknown_names(text: str, message: Any) -> list[Unknown]:
    """In order of their lines; ``message``: the descriptor of what the text is."""
    return list(_scan(_Scan(_tokens(text)), message))


def _tokens(text: str) -> list[tuple[str, int]]:
    found, line = [], 1
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
        elif token[0] not in "#,;":
            found.append((token, line))
    return found


def _scan(scan: _Scan, message: Any) -> Iterator[Unknown]:
    blocks: list[tuple[Any, Any]] = [(message, None)]  # open ones: message and field; None inside something unknown
    field: Any = None  # the last one
    while scan.peek():
        token, line = scan.next()
        owner = blocks[-1][0]
        if token in "}>":
            if len(blocks) > 1:
                field = blocks.pop()[1]
        elif token in "{<":  # one more of a list
            blocks.append((_inside(field), field))
        elif re.fullmatch(r"[A-Za-z_]\w*", token):
            field = owner.fields_by_name.get(token) if owner is not None else None
            if owner is not None and field is None:
                yield Unknown(_local(owner), token, line, is_value=False)
            for sign in (":", "["):
                if scan.peek() == sign:
                    scan.next()
            if scan.peek() not in ("{", "<"):
                yield from _scan_values(scan, field)


def _inside(field: Any) -> Any:
    return field.message_type if field is not None else None


def _scan_values(scan: _Scan, field: Any) -> Iterator[Unknown]:
    """A value, or the values of a list."""
    several = scan.position > 0 and scan.tokens[scan.position - 1][0] == "["
    while scan.peek() and scan.peek() not in ("}", ">"):
        token, line = scan.next()
        if token == "]":
            return
        enum = field.enum_type if field is not None else None
        if enum is not None and re.fullmatch(r"[A-Za-z_]\w*", token) and token not in enum.values_by_name:
            yield Unknown(_local(enum), token, line, is_value=True)
        if not several and not (token[0] in "\"'" and scan.peek()[:1] in ('"', "'")):  # strings in a row are one
            return


def _local(descriptor: Any) -> str:
    return str(descriptor.full_name).partition(".")[2]


def listed(items: list[Unknown], hint: str = "") -> str:
    """``"a_param" of LayerParameter (lines 3, 8 and 2 more; did you mean b_param?)``, for all items of one name."""
    first, lines = items[0], [item.line for item in items]
    more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    shown = ", ".join(map(str, lines[:_MOST_LINES]))
    what = f"value {first.name}" if first.is_value else f'"{first.name}"'
    return f"{what} of {first.owner} (line{'s' if len(lines) > 1 else ''} {shown}{more}{hint})"
