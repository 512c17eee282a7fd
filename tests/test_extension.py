"""The one loader of the compiled part: there, left out on purpose, or broken."""

import os
import subprocess
import sys
from pathlib import Path

import caffe_compat
from caffe_compat import extension

ROOT = Path(caffe_compat.__file__).parents[1]
#: what the package does without its compiled part; no torch is needed for it
PROGRAM = """
import sys, warnings
sys.modules["torch"] = None  # an ImportError, as from an extension built for another PyTorch
from caffe_compat import extension
from caffe_compat.errors import CaffeCompatError

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = [extension.load() for _ in range(3)]
    cuda = extension.has_cuda()
    function = extension.fake_kernel("lrn")(len)
    extension.autograd("lrn", len)
print(found, cuda, function is len)
print(*[str(warning.message) for warning in caught], sep="\\n")
try:
    extension.require("training on three GPUs")
except CaffeCompatError as error:
    print("error:", error)
"""


def run(value: str) -> list[str]:
    """The lines that PROGRAM prints with ``CAFFE_COMPAT_EXTENSION=value``."""
    environment = {**os.environ, extension.VARIABLE: value, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_left_out_on_purpose_draws_no_warning() -> None:
    assert run("0") == [
        "[None, None, None] False True",
        "",
        "error: training on three GPUs needs the compiled part of caffe_compat: CAFFE_COMPAT_EXTENSION is 0",
    ]


def test_broken_warns_once_and_says_how_to_build_it() -> None:
    found, warning, error = run("1")
    assert found == "[None, None, None] False True"
    reason = "import of torch halted; None in sys.modules; " + extension.BUILD
    assert warning == f"caffe_compat runs without its compiled part, slowly: {reason}"
    assert error == f"error: training on three GPUs needs the compiled part of caffe_compat: {reason}"


def test_here_it_is_loaded_once() -> None:
    module = extension.load()
    assert module is not None
    assert module.__name__ == "caffe_compat._C"
    assert extension.load() is module is extension.require("this test")
    assert extension.has_cuda() == module.has_cuda
