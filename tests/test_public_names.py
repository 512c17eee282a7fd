"""Names that users write in their own code and scripts: none goes, and none comes, unless somebody means it.

``python -m tests.test_public_names`` writes tests/golden/public_names.txt anew.
"""

import argparse
import difflib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from caffe_compat.atomic_file import write_text
from caffe_compat.cli import commands, module_of
from caffe_compat.layers.base import Layer
from caffe_compat.tools._extensions import add_extension_arguments
from reproduce import options

ROOT = Path(__file__).parent.parent
FILE = ROOT / "tests" / "golden" / "public_names.txt"
ROOMS = ("data", "glog", "layers", "net", "ops", "proto", "pycaffe", "random", "solver")
#: what the root package imports for itself
IMPORTED = {"Any", "TYPE_CHECKING", "import_module", "errors", "glog_settings"}


def public_lines() -> list[str]:
    """One line for each name or option, sorted."""
    return sorted({*root_names(), *room_names(), *layer_names(), *command_options(), *run_paper_options()})


def root_names() -> Iterator[str]:
    """``caffe_compat.<name>``: what a new interpreter shows, as modules that are imported later join it."""
    script = "import caffe_compat; print(*caffe_compat.__all__); print(*dir(caffe_compat))"
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    starred, shown = (line.split() for line in output.splitlines())
    yield from (f"caffe_compat.{name}" for name in shown if not name.startswith("_") and name not in IMPORTED)
    yield from (f"from caffe_compat import *: {name}" for name in starred)


def room_names() -> Iterator[str]:
    """``caffe_compat.<room>.<name>`` of each room's ``__all__``."""
    for room in ROOMS:
        yield from (
            f"caffe_compat.{room}.{name}" for name in getattr(import_module(f"caffe_compat.{room}"), "__all__", ())
        )


def layer_names() -> Iterator[str]:
    """What a layer may set or override: class variables with their defaults, methods with their parameters."""
    for name, value in vars(Layer).items():
        if name.startswith("_"):
            continue
        function = inspect.unwrap(value.__func__) if isinstance(value, classmethod) else value
        if inspect.isfunction(function):
            yield f"Layer.{name}({', '.join(map(parameter_text, inspect.signature(function).parameters.values()))})"
        else:
            yield f"Layer.{name}" + ("" if isinstance(value, property) else f" = {value!r}")


def parameter_text(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
    if parameter.kind == parameter.VAR_POSITIONAL:
        return f"*{parameter.name}"
    return f"**{parameter.name}" if parameter.kind == parameter.VAR_KEYWORD else parameter.name + default


def command_options() -> Iterator[str]:
    """``caffe-compat <command> --option: ...``."""
    for command in commands():
        parser = argparse.ArgumentParser(add_help=False)
        module = module_of(command)
        assert module is not None
        tool = import_module(module)
        if not hasattr(tool, "add_arguments"):  # run_paper.py, below
            continue
        tool.add_arguments(parser)
        add_extension_arguments(parser)
        yield from option_lines(f"caffe-compat {command}", parser)


def run_paper_options() -> Iterator[str]:
    """The same for reproduce/run_paper.py."""
    yield from option_lines("run_paper.py", options.make_parser(""))


def option_lines(program: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """One line for each option or positional argument: default, choices, whether it takes no value or must be given."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no public list of its options)
        if action.dest == "help":
            continue
        names = ", ".join(action.option_strings) or action.dest
        facts = ["a switch"] if action.nargs == 0 else []
        facts += [f"nargs {action.nargs!r}"] if action.nargs not in (None, 0) else []
        facts += [f"default {plain(action.default)}"] if action.default not in (None, argparse.SUPPRESS) else []
        facts += [f"choices {plain(tuple(action.choices))}"] if action.choices is not None else []
        facts += ["required"] if action.required and action.option_strings else []
        facts += ["may be repeated"] if type(action).__name__ == "_AppendAction" else []
        yield f"{program} {names}" + (f": {'; '.join(facts)}" if facts else "")


def plain(value: object) -> str:
    """A value as text, paths without their class."""
    return repr(str(value) if isinstance(value, Path) else value)


def test_public_names_are_the_known_ones() -> None:
    known, found = FILE.read_text(encoding="utf-8").splitlines(), public_lines()
    changes = [line for line in difflib.unified_diff(known, found, lineterm="", n=0) if line[:3] not in ("---", "+++")]
    changes = [line for line in changes if not line.startswith("@@")]
    assert known == found, "\n".join(
        [
            "public names or options changed (- was there, + is new):",
            *changes,
            "where that is meant, run: python -m tests.test_public_names",
        ]
    )


if __name__ == "__main__":
    write_text(FILE, "\n".join(public_lines()) + "\n")
