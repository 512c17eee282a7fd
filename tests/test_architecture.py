"""The order of the rooms: each may use those before it, never those after; no circle inside a room either.

docs/architecture.md says what each room is for.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = [
    "errors",
    "lazy",
    "atomic_file",
    "file_lock",
    "extension",
    "proto",
    "random",
    "precision",
    "progress",
    "memory",
]
ROOMS += [
    "thread_limit",
    "glog_settings",
    "glog",
    "onnx_graph",
    "ops",
    "layers",
    "data",
    "net",
    "solver",
    "pycaffe",
    "tools",
    "cli",
    "completion",
]
FILES = sorted((ROOT / "caffe_compat").rglob("*.py"))
REPRODUCE = sorted((ROOT / "reproduce").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (*FILES, *REPRODUCE)}


def imported_names(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere, also late, for type checkers only, or by ``import_module``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            if isinstance(argument, ast.JoinedStr):  # f"caffe_compat.tools.{command}": the part that is fixed
                argument = argument.values[0]
            if isinstance(argument, ast.Constant):
                yield str(argument.value).rstrip(".")


def imported_modules(path: Path) -> set[str]:
    """Our own modules among them; a name in a module counts as the module."""
    found = set()
    for name in imported_names(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        # The root package holds names that are loaded late, and the version.
        if name and name != "caffe_compat":
            found.add(name)
    return found - {module_name(path)}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_back(path: Path) -> None:
    room = room_of(module_name(path))
    if not room:
        return  # the package's public names, loaded late
    assert room in ROOMS, f"{room} has no place in the order; add it to docs/architecture.md and here"
    used = imported_modules(path)
    assert not [name for name in used if name.startswith("reproduce")], f"{path}: the package must not use reproduce/"
    later = sorted(name for name in used if ROOMS.index(room_of(name)) > ROOMS.index(room))
    assert not later, f"{path.relative_to(ROOT)} imports {later}, which come after {room}"


def test_no_circles() -> None:
    graph = {module: imported_modules(path) for module, path in MODULES.items() if module != "caffe_compat"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' <- '.join(error.args[1])}")


def is_layer_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id == "layer_type"
    owner = ast.unparse(node.value) if isinstance(node, ast.Attribute) and node.attr == "type" else ""
    return owner.endswith(("layer", "view"))


def holds_text(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


def asks_for_type(node: ast.AST) -> bool:
    """Whether an expression is like ``layer.type == "Split"``, ``in ("A", "B")`` or ``.type.endswith("Loss")``."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(map(holds_text, sides)) and any(map(is_layer_type, sides))
    called = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(called, ast.Attribute) and called.attr in ("startswith", "endswith") and is_layer_type(called.value)
    )


@pytest.mark.parametrize("path", [*FILES, *REPRODUCE, *BENCHMARKS, *EXAMPLES], ids=lambda p: str(p.relative_to(ROOT)))
def test_only_layers_know_types_by_name(path: Path) -> None:
    """Elsewhere a layer's class is asked; proto/ upgrades old files, which name types."""
    module = module_name(path)
    if module.startswith(("caffe_compat.layers", "caffe_compat.data.layers", "caffe_compat.proto")):
        return
    nodes = ast.walk(ast.parse(path.read_text()))
    found = [node.lineno for node in nodes if isinstance(node, ast.expr) and asks_for_type(node)]
    assert not found, f"{path.relative_to(ROOT)}: lines {found} ask for a layer's type; declare it in the layer's class"


def test_files_can_be_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import caffe_compat.proto, caffe_compat.data.lmdb, caffe_compat.data.datum\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
