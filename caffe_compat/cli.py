"""The ``caffe-compat`` command: finds ``tools/<command>.py`` and runs it.

Another package adds a command of its own as an entry point of the group ``caffe_compat.commands``, which names its
module.  A tool, or such a module, has ``add_arguments(parser)`` and ``run(args) -> exit status``; one that reads its
words itself has ``main(words, program) -> exit status`` and ``make_parser(program)`` instead, whose flags shells
complete.  The first line of its docstring is its help.
Flags may be written as gflags takes them: ``--flag=value``, ``-flag value``, ``--noflag``, ``--flag=false``; they may
come before the command, and glog's own (``-log_dir logs``, ``-minloglevel 1``, ``-logtostderr``) are among them.
"""

import argparse
import ast
import difflib
import importlib
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from caffe_compat import __version__, tools
from caffe_compat.errors import CaffeCompatError, one_line, printable
from caffe_compat.glog_settings import FLAGS, SETTINGS
from caffe_compat.thread_limit import fit_threads
from caffe_compat.tools._extensions import add_extension_arguments, load_extensions

ENTRY_POINTS = "caffe_compat.commands"
USAGE_ERROR = 2
INTERRUPTED = 130

_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 1 for an error in the user's files, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["caffe"]:  # `caffe-compat caffe train ...`
        words = words[1:]
    if words[:1] == ["help"] and len(words) > 1:  # `caffe-compat help train`
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "-help", "help"):
        print(_overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else USAGE_ERROR
    if words[0] in ("--version", "-version"):
        print(f"caffe-compat {__version__}")
        return 0
    words = _command_first(words)
    command, rest = words[0].replace("-", "_"), words[1:]
    module = module_of(command)
    if module is None:
        known = ["--help", "--version"] if words[0].startswith("-") else commands()
        close = difflib.get_close_matches(words[0] if words[0].startswith("-") else command, known, 2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(commands())}"
        print(f"caffe-compat: unknown command {printable(words[0])!r}; {hint}", file=sys.stderr)
        return USAGE_ERROR
    try:
        if SETTINGS.unread:
            SETTINGS.set_from_environment()
        rest = _take_glog_flags(rest)
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            return _run(command, module, rest)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has gone; nobody is left to tell
    except KeyboardInterrupt:
        return INTERRUPTED
    except (CaffeCompatError, OSError) as error:
        if "--debug" in rest or "-debug" in rest:
            traceback.print_exc()
        print(f"caffe-compat {command}: {one_line(error)}", file=sys.stderr)
    return 1


def _command_first(words: list[str]) -> list[str]:
    """``-solver s.prototxt train`` as ``train -solver s.prototxt``, where flags come before the command."""
    if not words[0].startswith("-"):
        return words
    for i, word in enumerate(words):
        module = module_of(word.replace("-", "_"))
        if module is not None and not _takes_value(module, words[i - 1]):
            return [word, *words[:i], *words[i + 1 :]]
    return words


def _takes_value(module: str, word: str) -> bool:
    """Whether ``word`` is a flag of the command (or glog's) after which a value has to come."""
    name = word.lstrip("-")
    if not word.startswith("-") or "=" in name:
        return False
    parser = argparse.ArgumentParser(add_help=False)
    tool = importlib.import_module(module)
    if hasattr(tool, "add_arguments"):
        tool.add_arguments(parser)
    declared = parser._actions  # noqa: SLF001  (argparse has no public list of its options)
    switches = {option.lstrip("-") for action in declared if action.nargs == 0 for option in action.option_strings}
    return FLAGS.get(name, name not in switches and name not in ("debug", "h", "help"))


def _take_glog_flags(words: Sequence[str]) -> list[str]:
    """Give glog's own flags to its settings; returns the other words."""
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if word == "--" or not word.startswith("-") or (name.removeprefix("no") not in FLAGS and name not in FLAGS):
            rest.append(word)
            if word == "--":
                return rest + waiting
            continue
        if name not in FLAGS:  # --nologtostderr
            name, equals, value = name.removeprefix("no"), "=", "0"
        if FLAGS[name] and not equals:
            if not waiting:
                raise CaffeCompatError(f"{word}: a value is missing")
            value = waiting.pop(0)
        SETTINGS.set(name, value if equals or FLAGS[name] else "1")
    return rest


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """The user's files are at fault, not a line of ours: no Python source in it."""
    print(f"warning: {printable(str(message))}", file=sys.stderr)


def commands() -> dict[str, str]:
    """Every command and its one line of help, read without importing the tools."""
    return {name: _first_line(_origin(module)) for name, module in sorted({**_added(), **_tools()}.items())}


def module_of(command: str) -> str | None:
    """The module of a command; None when there is no such command."""
    return _tools().get(command) or _added().get(command)


def _tools() -> dict[str, str]:
    """{command: module} of the tools here."""
    return {path.stem: f"{tools.__name__}.{path.stem}" for path in Path(tools.__path__[0]).glob("[!_]*.py")}


@cache
def _added() -> dict[str, str]:
    """{command: module} of the entry points that can be imported.

    In a checkout that is not installed, or was before it had them, those of its pyproject.toml count too.
    """
    import tomllib
    from importlib.metadata import entry_points  # late: they take a third of the time of a --help

    project = Path(tools.__path__[0]).parent.parent / "pyproject.toml"
    found: dict[str, str] = {}
    if project.is_file():
        groups = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("entry-points", {})
        found |= groups.get(ENTRY_POINTS, {})
    found |= {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    return {name: module for name, module in found.items() if _origin(module)}


def _origin(module: str) -> str:
    """The file of a module, which is not imported; "" when it is not there."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    return spec.origin or "" if spec else ""


def _first_line(path: str) -> str:
    docstring = ast.get_docstring(ast.parse(Path(path).read_text(encoding="utf-8")))
    return docstring.splitlines()[0] if docstring else ""


def _overview() -> str:
    width = max((len(name) for name in commands()), default=0)
    lines = [f"  {name:{width}}  {text}" for name, text in commands().items()]
    more = "caffe-compat help <command> tells its flags; caffe-compat completion completes them in your shell"
    return "\n".join(["usage: caffe-compat <command> <args>", "", "commands:", *lines, "", more])


def _run(command: str, module: str, words: Sequence[str]) -> int:
    tool = importlib.import_module(module)
    if not hasattr(tool, "add_arguments"):
        return int(tool.main(list(words), f"caffe-compat {command}"))
    parser = _Parser(f"caffe-compat {command}", **_settings(tool))
    add_arguments(parser, tool)
    try:
        plain, switched_off = from_gflags(parser, words)
        args = parser.parse_args(plain)
        _check_not_empty(parser, args)
    except SystemExit as stop:  # argparse has printed help or what is wrong
        return int(stop.code or 0)
    for name in switched_off:
        setattr(args, name, False)
    fit_threads()
    load_extensions(args)
    return int(tool.run(args))


def _settings(tool: ModuleType) -> dict[str, Any]:
    # A prefix of a flag is not that flag in gflags.
    formatter = argparse.RawDescriptionHelpFormatter
    return {"description": tool.__doc__, "formatter_class": formatter, "allow_abbrev": False}


def add_arguments(parser: argparse.ArgumentParser, tool: ModuleType) -> None:
    """Those of a command, and those that every command has."""
    tool.add_arguments(parser)
    add_extension_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def complete_parser() -> argparse.ArgumentParser:
    """One parser with every command as a sub-command: what a shell's completion is made of."""
    parser = argparse.ArgumentParser("caffe-compat")
    parser.add_argument("--version", action="store_true", help="print the version")
    below = parser.add_subparsers()
    for name, text in commands().items():
        tool = importlib.import_module(module_of(name) or "")
        if hasattr(tool, "add_arguments"):
            add_arguments(below.add_parser(name, help=text), tool)
        else:
            below.add_parser(name, help=text, add_help=False, parents=[tool.make_parser(f"caffe-compat {name}")])
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def _check_not_empty(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """An empty name of a file, as an unset variable of a shell gives it, is none."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no public list of its options)
        if action.required and getattr(args, action.dest) == "":
            parser.error(f"argument {'/'.join(action.option_strings) or action.metavar or action.dest}: is empty")


def from_gflags(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words for argparse, names of switches that are explicitly off) from words in gflags' forms."""
    declared = parser._actions  # noqa: SLF001  (argparse has no public list of its options)
    options = {option.lstrip("-").replace("-", "_"): action for action in declared for option in action.option_strings}
    plain: list[str] = []
    switched_off: list[str] = []
    value_follows = False
    for i, word in enumerate(words):
        if word == "--":
            return plain + list(words[i:]), switched_off
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        dashes = len(word) - len(word.lstrip("-"))
        if value_follows or dashes not in (1, 2) or len(name) < 2:
            plain.append(word)
            value_follows = False
            continue
        action = options.get(name)
        if action is None and name.startswith("no") and _is_switch(options.get(name[2:])):
            switched_off.append(options[name[2:]].dest)
        elif action is None:
            if not re.fullmatch(r"-\d.*|-", word):  # no number
                parser.error(unknown_flag(word, options))
            plain.append(word)
        elif _is_switch(action) and equals:
            if value.lower() in _TRUE:
                plain.append(action.option_strings[-1])
            elif value.lower() in _FALSE:
                switched_off.append(action.dest)
            else:
                parser.error(f"argument --{name}: expected true or false, not {value!r}")
        else:
            plain.append(action.option_strings[-1] + equals + value)
            value_follows = not equals and action.nargs != 0
    return plain, switched_off


def unknown_flag(word: str, flags: Iterable[str]) -> str:
    """What is wrong with a word that is none of the flags (their names without dashes), and which are like it."""
    known = {flag.replace("-", "_"): f"--{flag}" for flag in flags if len(flag) > 1}
    close = difflib.get_close_matches(word.lstrip("-").partition("=")[0].replace("-", "_"), known, 2)
    hint = f"did you mean {' or '.join(known[flag] for flag in close)}?" if close else "no flag of this command"
    return f"unrecognized arguments: {word}: {hint}"


def _is_switch(action: argparse.Action | None) -> bool:
    return action is not None and action.nargs == 0 and action.const is True


if __name__ == "__main__":
    sys.exit(main())
