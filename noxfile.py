"""The wheel on every Python and PyTorch that it is said to run on: ``make matrix``.

    make matrix                                         all of them, a quarter of an hour of two cores each
    make matrix PYTHONS='3.11 3.13' TORCHES=2.10.0      some
    make matrix ARGS='tests/data tests/tools'           other rooms' tests than the core's

Each session makes an environment of its own, builds the source archive and from it the wheel against that PyTorch,
installs it, and runs the tests in a folder where nothing of the checkout can stand in for what the wheel lacks.  A
Python that neither PATH has nor uv can fetch is an error: PATH=/opt/python3.13/bin:$PATH make matrix PYTHONS=3.13.
docs/reliability.md says which were run.
"""

import os
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = os.environ.get("PYTHONS", "3.11 3.12 3.13 3.14").split()
TORCHES = os.environ.get("TORCHES", "2.10.0 2.11.0 2.12.1 2.13.0 2.14.1 2.15.0").split()
#: what tests read or compile beside the package
BESIDE_TESTS = ("csrc", "prototxt", "docs", "pyproject.toml")
#: operators, random numbers, every layer, nets, training, but what compiles the CUDA sources for the host once more
CORE = ("tests/random", "tests/ops", "tests/net", "tests/layers", "tests/solver", "--ignore-glob=*/test_host_*")

#: at the versions of requirements.txt: it is not these that vary
TOOLS = [
    line
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line.startswith(("pytest==", "pytest-xdist==", "hypothesis==", "grpcio-tools=="))
]

nox.options.default_venv_backend = "uv|virtualenv"


@nox.session
@nox.parametrize("torch", TORCHES)
@nox.parametrize("python", PYTHONS)
def tests(session: nox.Session, torch: str) -> None:
    """Build the wheel, install it, test it outside of the checkout."""
    # Without nvcc's part, which no test can run without a GPU and which takes minutes to compile.
    environment = {"CAFFE_COMPAT_CUDA": os.environ.get("CAFFE_COMPAT_CUDA", "0"), "PYTHONPATH": ""}
    session.install(f"torch=={torch}", "setuptools", "pybind11", "ninja", "pip")
    folder = Path(session.create_tmp()).resolve()
    dist, outside = folder / "dist", folder / "outside"
    for old in (dist, outside):
        shutil.rmtree(old, ignore_errors=True)
    archive = ("setup.py", "--quiet", "egg_info", "--egg-base", str(folder), "sdist", "--dist-dir", str(dist))
    session.run("python", *archive, env=environment)
    (sources,) = dist.glob("*.tar.gz")
    wheel = ("-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", str(dist))
    session.run("python", *wheel, str(sources), env=environment)
    (built,) = dist.glob("*-linux_*.whl")
    extras = "reproduce,onnx,completion"
    if session.python in {"3.11", "3.12"}:
        extras += ",leveldb"  # plyvel has no wheels for newer ones
    session.install(f"{built}[{extras}]", f"torch=={torch}", *TOOLS)

    shutil.copytree(ROOT / "tests", outside / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE_TESTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, outside / name)
    session.chdir(outside)
    place = (
        "import torch; from caffe_compat import extension as e; print(torch.__version__, e.require('tests').__file__)"
    )
    session.run("python", "-c", place, env=environment)
    session.run("python", "-m", "pytest", "-m", "not slow", *(session.posargs or CORE), env=environment)
