"""The one door to the compiled part: what imports it, and what an import of the package costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from caffe_compat import extension

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("caffe_compat", "reproduce", "tests") for path in (ROOT / folder).rglob("*.py"))
DOOR = ROOT / "caffe_compat" / "extension.py"


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, cwd=ROOT, check=True
    )


def names_of_the_extension(path: Path) -> list[str]:
    """What the file says of the extension's module in code: imports, and strings that could be imported."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return [name for name in found if name == "caffe_compat._C" or name.startswith("caffe_compat._C.")]


@pytest.mark.parametrize("path", [p for p in FILES if p not in (DOOR, Path(__file__))], ids=lambda p: p.name)
def test_nobody_else_imports_the_extension(path: Path) -> None:
    assert not names_of_the_extension(path), f"{path}: take it from caffe_compat.extension"


def test_the_door_imports_it() -> None:
    assert names_of_the_extension(DOOR)
    assert extension.load() is extension.require("this test")


def test_importing_the_package_does_not_load_the_compiler() -> None:
    """torch._dynamo takes longer to import than everything else."""
    code = (
        "import sys, caffe_compat.net, caffe_compat.solver, caffe_compat.ops, caffe_compat.pycaffe\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert run_python(code).stdout == "False\n"


WITHOUT = "import sys; sys.modules['caffe_compat._C'] = None\n"


def test_one_warning_and_the_plain_twins_without_it() -> None:
    code = WITHOUT + (
        "import torch\n"
        "from caffe_compat import extension, random\n"
        "from caffe_compat.ops import lrn\n"
        "assert extension.load() is None and not extension.has_cuda()\n"
        "print(random.CaffeGenerator(5489).raw(), lrn(torch.ones(1, 1, 1, 1), 1, 1.0, 1.0).item())\n"
        "try: extension.require('the test')\n"
        "except extension.CaffeCompatError as error: print(error)\n"
    )
    shown = run_python(code)
    assert shown.stdout.startswith("3499211612 0.5\nthe test needs the compiled part of caffe_compat: ")
    assert shown.stderr.count("caffe_compat runs without its compiled part, slowly") == 1
    assert "pip install --no-build-isolation -e ." in shown.stderr


def test_left_out_on_purpose_there_is_no_warning() -> None:
    shown = run_python("import caffe_compat.ops.conv as c; print(c)", **{extension.VARIABLE: "0"})
    assert shown.stderr == ""


def test_an_operator_has_its_shapes_and_gradient_from_python() -> None:
    """``fake_kernel`` and ``autograd`` are what torch.compile and autograd ask."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert torch.ops.caffe_compat.lrn(torch.empty(2, 3, 5, 5), 3, 1.0, 0.75, 1.0, False).shape == (2, 3, 5, 5)
    x = torch.ones(1, 3, 2, 2, requires_grad=True)
    torch.ops.caffe_compat.lrn(x, 3, 1.0, 0.75, 1.0, False).sum().backward()
    assert x.grad is not None


def test_plain_twins_compute_what_the_operators_do() -> None:
    extension.require("this test")
    import caffe_compat.ops  # noqa: F401  (each operator's module says its twin)

    x, w, b = torch.randn(2, 4, 9, 9), torch.randn(6, 2, 3, 3), torch.randn(6)
    conv, pool, norm = ([2, 1], [1, 0], [1, 2], 2), ([3, 2], [2, 2], [1, 0], [5, 5]), (3, 0.5, 0.75, 2.0)
    arguments = {
        "conv": (x, w, b, *conv),
        "conv_relu": (x, w, b, *conv),
        "conv_fast": (x, w, b, *conv, True, 6),
        "max_pool": (x, *pool, True),
        "relu_pool_lrn": (x, *pool, True, *norm),
        "lrn": (x, *norm, True),
        "linear": (x.flatten(1), torch.randn(5, 324), torch.randn(5), True),
    }
    twins = extension.plain_twins()
    assert {f"caffe_compat.{name}.default" for name in arguments} == set(map(str, twins))
    for operator, twin in twins.items():
        given = arguments[str(operator).split(".")[1]]
        found, expected = twin(*given), operator(*given)
        if isinstance(found, tuple):
            found, expected = found[0], expected[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=str(operator))
