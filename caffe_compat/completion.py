"""Print the completion of commands and flags for a shell.

    mkdir -p ~/.local/share/bash-completion/completions
    caffe-compat completion bash > ~/.local/share/bash-completion/completions/caffe-compat
    caffe-compat completion zsh > "${fpath[1]}/_caffe-compat"

Needs shtab: pip install caffe-compat[completion].
"""

import argparse
from pathlib import Path

from caffe_compat.errors import CaffeCompatError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell that is to read it")


def run(args: argparse.Namespace) -> int:
    """Print; returns the exit status."""
    try:
        import shtab
    except ImportError:
        raise CaffeCompatError("completion needs shtab; run pip install caffe-compat[completion]") from None
    from caffe_compat.cli import complete_parser

    parser = complete_parser()
    _offer_files(parser, shtab.FILE)
    print(shtab.complete(parser, args.shell))
    return 0


def _offer_files(parser: argparse.ArgumentParser, files: object) -> None:
    """Where any words are taken, the names of files are offered: nearly all of them are names of files."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no public list of its options)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  (nor a public name of this)
            for command in action.choices.values():
                _offer_files(command, files)
        elif action.nargs != 0 and not action.choices and action.type in (None, str, Path):
            action.complete = files  # type: ignore[attr-defined]  # what shtab looks for
