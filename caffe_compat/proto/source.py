"""Where a message came from: the file's name, and the line of a layer in its text."""

import os
import re
from dataclasses import dataclass
from functools import cached_property

from caffe_compat.errors import printable

FilePath = str | os.PathLike[str]

# A comment, a string, a name, or a brace; everything else does not matter for finding layers.
_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\w+|[{}<>:\n]""")


@dataclass(frozen=True)
class Source:
    """Names places for error messages.  ``text`` is None for binary files and messages."""

    name: str = "<message>"
    text: str | None = None

    @cached_property
    def _lines(self) -> dict[str, list[int]]:
        return layer_lines(self.text) if self.text is not None else {}

    def layer(self, layer_name: str) -> str:
        """``file:41: layer "conv1"``; without the line where it is unknown or not unique."""
        lines = self._lines.get(layer_name, [])
        line = f":{lines[0]}" if len(lines) == 1 else ""
        return f'{self.name}{line}: layer "{printable(layer_name)}"'


def layer_lines(text: str) -> dict[str, list[int]]:
    """Layer name -> the lines (from 1) on which ``layer {`` blocks of that name start.

    Covers ``layer`` and ``layers`` at the top level, V0's nested form included.  A name stands
    twice in a net that has a layer for TRAIN and one for TEST.
    """
    found: dict[str, list[int]] = {}
    line, block_line, depth = 1, 0, 0
    path: list[str] = []  # names of the open blocks
    last = previous = ""
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
            continue
        if token[0] == "#":
            continue
        if token in "{<":
            depth += 1
            path.append(previous if last == ":" else last)
            if depth == 1:
                block_line = line
        elif token in "}>" and depth:
            depth -= 1
            path.pop()
        elif token[0] in "\"'" and last == ":" and previous == "name" and path in _LAYER_PATHS:
            found.setdefault(token[1:-1], []).append(block_line)
        previous, last = last, token
    return found


_LAYER_PATHS = (["layer"], ["layers"], ["layers", "layer"])
