"""What users add to any command: fields of a Caffe fork (``--schema``), layers and solver rules (``--import``)."""

import argparse
import importlib
import importlib.util
import os
import sys
from pathlib import Path

from caffe_compat.errors import CaffeCompatError, seen_from


def add_extension_arguments(parser: argparse.ArgumentParser) -> None:
    """The two flags."""
    parser.add_argument(
        "--schema",
        action="append",
        default=[],
        metavar="FILE",
        help="a .proto file with the fields of a Caffe fork; may be repeated",
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a Python module, or a .py file, with layers or solver rules of your own (@register); may be repeated",
    )


def load_extensions(args: argparse.Namespace) -> None:
    """Make them known in this process; a process that a command starts must call this, too."""
    if args.schema:
        from caffe_compat.proto import extend_schema

        for path in args.schema:
            extend_schema(path)
    for name in args.imports:
        if name.endswith(".py"):
            _import_file(Path(name))
        else:
            _import_module(name)


def _import_module(name: str) -> None:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise CaffeCompatError(f"--import {name}: {error}; looked in {folder} and on Python's path") from error
    finally:
        sys.path.remove(folder)


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise CaffeCompatError(f"--import {path}: no such file{seen_from(path)}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # a file that ends in .py has both
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
