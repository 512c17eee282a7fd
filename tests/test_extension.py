"""The one door to the compiled part: what imports it, and what an import of the package costs."""

import ast
import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from caffe_compat import __version__, extension

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


def test_who_installed_a_wheel_is_told_of_wheels(tmp_path: Path) -> None:
    """There is no checkout to install from."""
    (tmp_path / "caffe_compat").mkdir()
    for name in ("__init__.py", "extension.py", "errors.py", "lazy.py"):
        shutil.copy(ROOT / "caffe_compat" / name, tmp_path / "caffe_compat")
    code = WITHOUT + "from caffe_compat import extension; extension.load()"
    shown = run_python(code, PYTHONPATH=str(tmp_path), PYTHONSAFEPATH="1")
    assert (
        "slowly: import of caffe_compat._C halted; None in sys.modules; install a wheel that was built" in shown.stderr
    )
    assert f"--force-reinstall caffe_compat-{__version__}.tar.gz`" in shown.stderr
    assert "-e ." not in shown.stderr


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


def test_there_is_one_cxx_runtime() -> None:
    """An exception that passes from one to another ends the process."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the linker's names are Linux's")
    ours = ctypes.CDLL(extension.require("this test").__file__)
    for library, name in (("libstdc++.so.6", "__cxa_get_globals"), ("libgcc_s.so.1", "_Unwind_RaiseException")):
        shared = ctypes.CDLL(library)
        addresses = {ctypes.cast(getattr(each, name), ctypes.c_void_p).value for each in (ours, shared)}
        assert len(addresses) == 1, f"{name}: the extension has a {library} of its own"


CHECKED = """
#include <torch/library.h>

#include <stdexcept>

#include "common/tensor_checks.h"

at::Tensor check(const at::Tensor& x) {
  const std::string held = caffe_compat::describe(x);  // unwinding runs its destructor
  caffe_compat::check_rank("check", "x", x, 4);
  throw std::runtime_error(held);
}

TORCH_LIBRARY(caffe_compat_checked, m) { m.def("check(Tensor x) -> Tensor", check); }
"""
RAISE = """
import sys, torch
torch.ops.load_library(sys.argv[1])
for axes in (2, 4):
    try: torch.ops.caffe_compat_checked.check(torch.ones([1] * axes))
    except Exception as error: print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_errors_survive_a_compiler_that_links_its_own_runtime(tmp_path: Path) -> None:
    """As compilers outside of the system's folders do without a word; setup.py names the shared one first."""
    spec = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    source, library = tmp_path / "checked.cpp", tmp_path / "checked.so"
    source.write_text(CHECKED)
    include = Path(torch.__file__).parent / "include"
    command = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{ROOT / 'csrc'}", f"-I{include}"]
    command += [f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", str(source), "-o", str(library)]
    command += [f"-L{include.parent / 'lib'}", "-lc10", "-ltorch_cpu", "-static-libstdc++", "-static-libgcc"]
    built = subprocess.run([*command, *setup.cxx_runtime()], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    raised = subprocess.run([sys.executable, "-c", RAISE, str(library)], capture_output=True, text=True)
    assert raised.returncode == 0, raised.stderr
    expected = ["ValueError check: x is Float [1, 1] on cpu; expected 4 axes", "RuntimeError Float [1, 1, 1, 1] on cpu"]
    assert raised.stdout.splitlines() == expected
