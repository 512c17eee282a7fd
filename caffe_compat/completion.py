"""Print the completion of commands and flags for a shell.

    caffe-compat completion bash > ~/.local/share/bash-completion/completions/caffe-compat
    caffe-compat completion zsh > "${fpath[1]}/_caffe-compat"

Needs shtab: pip install caffe-compat[completion].
"""

import argparse

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

    print(shtab.complete(complete_parser(), args.shell))
    return 0
