"""What happened during an upgrade."""

from dataclasses import dataclass, field
from typing import NoReturn

from caffe_compat.errors import ProtoError, printable
from caffe_compat.proto.source import Source


@dataclass
class UpgradeLog:
    """``problems``: fields that Caffe complains about and drops; its upgrade tools then exit with 1.
    ``notes``: fields that Caffe drops silently."""

    source: Source
    changed: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, layer: str, text: str) -> None:
        """A field that does not fit the layer's type was dropped."""
        self.problems.append(f"{self.source.layer(layer)}: {printable(text)}")

    def note(self, text: str) -> None:
        """A field without a counterpart in the new form was dropped."""
        self.notes.append(f"{self.source.name}: {printable(text)}")

    def fail(self, layer: str, text: str) -> NoReturn:
        """Raise ProtoError about a layer."""
        raise ProtoError(f"{self.source.layer(layer)}: {text}")

    def fail_net(self, text: str) -> NoReturn:
        """Raise ProtoError about the whole net."""
        raise ProtoError(f"{self.source.name}: {text}")
