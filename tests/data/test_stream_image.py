"""The streaming transform's versions for each set of vector instructions, under sanitizers."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ops.host_kernels import SANITIZE

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(ROOT / "csrc/batch_transform" / f"stream_image_{name}.cpp" for name in ("avx2", "avx512")),
    Path(__file__).parent / "host/stream_image.cpp",
]
FLAGS = ["-std=c++20", "-O1", "-ffp-contract=off", *SANITIZE]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the versions are for x86")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers")
def test_every_version_equals_the_plain_formula(tmp_path: Path) -> None:
    program = tmp_path / "stream_image"
    subprocess.run(["g++", *FLAGS, f"-I{ROOT / 'csrc'}", *map(str, SOURCES), "-o", str(program)], check=True)
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
