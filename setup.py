"""Builds csrc/ into ``caffe_compat._C``; everything else about the package is in pyproject.toml.

    pip install --no-build-isolation -e .        or        python setup.py build_ext --inplace

Environment:
    CAFFE_COMPAT_EXTENSION 0: build nothing, for any machine with Python; the package runs on its plain twins then.
    CAFFE_COMPAT_CUDA      1: build the CUDA kernels or fail; 0: leave them out; unset: build them when nvcc is found
                           (a GPU is not needed for that).
    CUDA_HOME              the CUDA toolkit; unset: nvcc from PATH, then the one that pip installed.
    TORCH_CUDA_ARCH_LIST   GPU architectures; unset: those of the GPUs at hand, or, where there is none, "8.0+PTX",
                           which runs on every newer GPU too.
    MAX_JOBS               compilers at a time.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# Each architecture takes minutes to compile; PTX of the oldest one is translated for newer GPUs when they load it.
PORTABLE_CUDA_ARCHITECTURE = "8.0+PTX"

# The same numbers on every machine: no -march=native (kernels pick AVX2 or AVX-512 at run time), and a * b + c is
# never contracted to a fused operation behind our back.  No errno from sqrt, so that it vectorises.
STANDARD = "-std=c++20"  # older PyTorch, such as 2.10, asks for C++17
CXX_FLAGS = [
    STANDARD,
    "-O3",
    "-fopenmp",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]
CXX_FLAGS += ["-Wno-unused-parameter", "-Wno-unknown-pragmas", "-g0"]
NVCC_FLAGS = [STANDARD, "-O3", "--expt-relaxed-constexpr", "-lineinfo", "-Xcompiler=-fvisibility=hidden"]


def pip_cuda_folder() -> Path | None:
    """The folder in which pip's nvidia-* wheels keep their part of the CUDA 13 toolkit."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13"
    return folder if folder.is_dir() else None


def find_cuda_home() -> Path | None:
    """The toolkit's root: CUDA_HOME, that of nvcc on PATH, or pip's; None when there is no nvcc."""
    if named := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        if not (Path(named) / "bin" / "nvcc").exists():
            sys.exit(f"setup.py: CUDA_HOME is {named}, which has no bin/nvcc; expected the root of a CUDA toolkit")
        return Path(named)
    if nvcc := shutil.which("nvcc"):
        return nvcc_root(nvcc)
    pip_folder = pip_cuda_folder()
    return pip_folder if pip_folder and (pip_folder / "bin" / "nvcc").exists() else None


def nvcc_root(nvcc: str) -> Path:
    """The toolkit's root as nvcc itself states it: /usr/local/bin/nvcc may be a link or a script that calls another."""
    dry_run = subprocess.run([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull], capture_output=True, text=True)
    if top := re.search(r"^#\$ TOP=(.+)$", dry_run.stderr, re.MULTILINE):
        return Path(top.group(1)).resolve()
    return Path(nvcc).resolve().parent.parent


def nvcc_version(cuda_home: Path) -> str:
    """``major.minor`` of the toolkit's compiler."""
    text = subprocess.run([cuda_home / "bin" / "nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"release (\d+\.\d+)", text)
    if match is None:
        sys.exit(f"setup.py: {cuda_home}/bin/nvcc --version names no release; set CAFFE_COMPAT_CUDA=0 to build without")
    return match.group(1)


def choose_cuda(torch_cuda: str | None) -> Path | None:
    """The toolkit to build the CUDA kernels with, or None to leave them out; exits where the two do not go together."""
    wish = os.environ.get("CAFFE_COMPAT_CUDA", "")
    if wish not in ("", "0", "1"):
        sys.exit(f"setup.py: CAFFE_COMPAT_CUDA is {wish!r}; expected 0, 1 or unset")
    if wish == "0":
        return None
    if torch_cuda is None:
        if wish == "1":
            sys.exit("setup.py: CAFFE_COMPAT_CUDA is 1 but this torch has no CUDA; install a CUDA build of torch")
        return None
    cuda_home = find_cuda_home()
    if cuda_home is None:
        if wish == "1":
            sys.exit("setup.py: CAFFE_COMPAT_CUDA is 1 but there is no nvcc; install the CUDA toolkit or set CUDA_HOME")
        return None
    version = nvcc_version(cuda_home)
    if version.split(".")[0] != torch_cuda.split(".")[0]:
        sys.exit(
            f"setup.py: nvcc in {cuda_home} is CUDA {version} but torch is built with CUDA {torch_cuda}; their major "
            "versions must match: set CUDA_HOME to a matching toolkit, or CAFFE_COMPAT_CUDA=0 to build without CUDA"
        )
    return cuda_home


def library_folders(cuda_home: Path) -> list[str]:
    """Where the linker finds libcudart.so; pip's wheel has only libcudart.so.13, so a link is made for it."""
    if any((cuda_home / folder / "libcudart.so").exists() for folder in ("lib64", "lib")):
        return []
    pip_folder = pip_cuda_folder()
    versioned = sorted((pip_folder / "lib").glob("libcudart.so.*")) if pip_folder else []
    if not versioned:
        sys.exit(f"setup.py: {cuda_home} has no lib64/libcudart.so; install the CUDA runtime (nvidia-cuda-runtime)")
    folder = ROOT / "build" / "cuda_link"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "libcudart.so"
    link.unlink(missing_ok=True)
    link.symlink_to(versioned[0])
    return [str(folder)]


def cxx_runtime() -> list[str]:
    """The C++ runtime that torch has loaded, for the linker to take before the compiler's own.

    A compiler outside of the system's folders may find its runtime as an archive only, and links that without a word.
    With two runtimes in a process an exception that passes from one to the other ends it.
    """
    maps = Path("/proc/self/maps")
    paths = sorted({line.split()[-1] for line in maps.read_text().splitlines()}) if maps.exists() else []
    found = [path for name in ("libstdc++.so", "libgcc_s.so") for path in paths if Path(path).name.startswith(name)]
    return ["-Wl,--push-state,-Bdynamic", *found, "-Wl,--pop-state"] if found else []


def sources(suffixes: tuple[str, ...]) -> list[str]:
    """The sources with these endings, in a fixed order."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.suffix in suffixes)


def make_extension(cuda_home: Path | None) -> Extension:
    """The extension module."""
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    include, link = [str(ROOT / "csrc")], cxx_runtime()
    if cuda_home is None:
        return CppExtension(
            "caffe_compat._C",
            sources((".cpp",)),
            include_dirs=include,
            extra_compile_args={"cxx": CXX_FLAGS},
            extra_link_args=link,
        )

    if not torch.cuda.is_available():  # else torch takes those of the GPUs at hand
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", PORTABLE_CUDA_ARCHITECTURE)
    flags = ["-DCAFFE_COMPAT_WITH_CUDA"]
    if pip_folder := pip_cuda_folder():
        # Behind the toolkit's own headers: for cusparse.h, cublas_v2.h and the like, which a small toolkit lacks.
        flags += ["-isystem", str(pip_folder / "include")]
    return CUDAExtension(
        "caffe_compat._C",
        sources((".cpp", ".cu")),
        include_dirs=include,
        library_dirs=library_folders(cuda_home),
        extra_compile_args={"cxx": CXX_FLAGS + flags, "nvcc": NVCC_FLAGS + flags},
        extra_link_args=link,
    )


def obstacle() -> str:
    """Why the extension cannot be built here, and what to do; "" where it can."""
    pure = "CAFFE_COMPAT_EXTENSION=0 installs the package without its compiled part: it does the same, slowly"
    if sys.platform != "linux":
        return f"the compiled part builds on Linux only, and this is {sys.platform}; {pure}"
    if importlib.util.find_spec("torch") is None:
        return (
            "torch is not installed, and the compiled part is built against it: run `pip install torch setuptools "
            f"ninja pybind11`, then `pip install --no-build-isolation .`; {pure}"
        )
    compiler = os.environ.get("CXX", "").split()[:1] or ["g++"]
    if shutil.which(compiler[0]) is None:
        return f"there is no C++ compiler {compiler[0]}; on Debian run `apt-get install g++ python3-dev`; {pure}"
    return ""


class Refused(build_ext):  # type: ignore[misc]  # setuptools has no types
    """For a build that cannot be: the other commands, such as sdist, do without torch and a compiler."""

    def run(self) -> None:
        sys.exit(f"setup.py: {obstacle()}")


def compiled() -> dict[str, Any]:
    """What ``setup`` has to know of the extension."""
    if os.environ.get("CAFFE_COMPAT_EXTENSION") == "0":
        return {}
    if not {"build_ext", "bdist_wheel", "editable_wheel", "develop", "install", "build"} & set(sys.argv):
        return {}  # sdist, egg_info, --version: nothing is compiled
    if obstacle():
        return {"ext_modules": [Extension("caffe_compat._C", [])], "cmdclass": {"build_ext": Refused}}
    import torch

    cuda_home = choose_cuda(torch.version.cuda)
    if cuda_home is not None:
        # Before cpp_extension is imported: its own guess takes the parent of whichever nvcc is first on PATH.
        os.environ["CUDA_HOME"] = str(cuda_home)
    from torch.utils.cpp_extension import BuildExtension

    print(f"setup.py: building with {f'CUDA from {cuda_home}' if cuda_home else 'no CUDA'}")
    return {"ext_modules": [make_extension(cuda_home)], "cmdclass": {"build_ext": BuildExtension}}


if __name__ == "__main__":
    setup(**compiled())
