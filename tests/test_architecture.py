"""Imports point one way: each room may use the rooms before it, never those after."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["errors", "atomic_file", "extension", "proto", "random", "precision", "memory", "onnx_graph", "ops", "layers"]
ROOMS += ["data", "net", "solver", "pycaffe", "tools", "cli"]
FILES = sorted((ROOT / "caffe_compat").rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "caffe_compat").parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            assert not name.startswith("reproduce"), f"{path}: the package must not use reproduce/"
            parts = name.split(".")
            if parts[0] == "caffe_compat" and len(parts) > 1 and parts[1] in ROOMS:
                rooms.add(parts[1])
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_back(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return  # the package's public names, loaded late
    assert room in ROOMS, f"{room} has no place in the order; add it to docs/architecture.md and here"
    later = [r for r in imported_rooms(path) if ROOMS.index(r) > ROOMS.index(room)]
    assert not later, f"{path.relative_to(ROOT)} imports {later}, which come after {room}"


def test_files_can_be_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import caffe_compat.proto, caffe_compat.data.lmdb, caffe_compat.data.datum\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
