"""What a stranger installs: the source archive is whole, and a wheel made of it works where there is no checkout."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from caffe_compat import __version__

ROOT = Path(__file__).parents[1]
#: of a checkout, of no use in an archive; reproduce/prototxt is a link there, and a folder in the archive
NOT_PACKED = {".gitignore", "reproduce/prototxt"}
#: what a compiled wheel has to pass where there is no checkout: its operators, random numbers, files, nets
OUTSIDE = (
    "tests/ops/test_lrn.py",
    "tests/ops/test_solver_update.py",
    "tests/random/test_caffe_generator.py",
    "tests/net/test_net.py",
)
#: extras that `make test` does not need
UNLOCKED = {"axe", "ray", "tensorboard"}
NET = """name: "small"
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def run(words: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints."""
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_of_dependencies_names_each_where_it_is_needed() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    said = {(name, where.strip("`[]")) for names, where in rows[1:] for name in names.split(", ")}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {"always": settings["project"]["dependencies"], **settings["project"]["optional-dependencies"]}
    groups["to build"] = settings["build-system"]["requires"]
    true = {(re.split(r"[><=; ]", word)[0], group) for group, words in groups.items() for word in words}
    assert said == true - {("torch", "to build")}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive."""
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", folder, "sdist", "--dist-dir", folder], ROOT)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(archive: Path) -> Path:
    """A wheel without the compiled part, made of the archive."""
    run(["tar", "-xzf", archive], archive.parent)  # Debian 12's tarfile has no filter yet
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", "."]
    environment = os.environ | {"CAFFE_COMPAT_EXTENSION": "0"}
    run([*command, archive.parent / archive.name.removesuffix(".tar.gz")], archive.parent, environment)
    (path,) = archive.parent.glob("*.whl")
    return path


def test_the_archive_has_every_file(archive: Path) -> None:
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as file:
        packed = {member.name.removeprefix(f"{top}/") for member in file.getmembers() if not member.isdir()}
    for folder in ("csrc", "caffe_compat", "reproduce", "prototxt", "tests", "docs", "benchmarks", "examples"):
        there = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        there = {name for name in there if "__pycache__" not in name and not name.endswith((".so", ".pyc"))}
        assert there
        assert sorted(there - packed) == []
    assert {"setup.py", "pyproject.toml", "Makefile", "LICENSE", "README.md", "requirements.txt"} <= packed
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = run(["git", "ls-files"], ROOT).splitlines()
        assert sorted(set(listed) - packed - NOT_PACKED) == []


def test_the_lock_holds_what_is_asked_for() -> None:
    """All of requirements.txt at its version, all of pyproject.toml within its range; and a hash for each package."""
    entries = re.findall(r"^([\w.-]+)==(\S+)(.*(?:\n[ ]+.*)*)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", rest) for _, _, rest in entries)
    locked = {(canonicalize_name(name), version) for name, version, _ in entries}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = {Requirement(line) for line in lines if not line.startswith("#")}
    assert {(canonicalize_name(r.name), str(r.specifier).removeprefix("==")) for r in wanted} - locked == set()

    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = {name: extra for name, extra in file["project"]["optional-dependencies"].items() if name not in UNLOCKED}
    ranges = [*file["build-system"]["requires"], *file["project"]["dependencies"], *itertools.chain(*extras.values())]
    for requirement in map(Requirement, ranges):
        versions = [version for name, version in locked if name == canonicalize_name(requirement.name)]
        assert [v for v in versions if requirement.specifier.contains(v)], f"{requirement}: run make lock"


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\d\S+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation
    assert newest
    assert project["version"] == citation[1] == newest[1] == __version__


def test_a_wheel_without_the_compiled_part_is_for_any_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert not [name for name in names if name.endswith((".so", ".cpp", ".cu")) or name.startswith(("tests", "csrc"))]
    for folder in ("caffe_compat", "reproduce"):
        there = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        left_out = {str(path) for path in there if "__pycache__" not in path.parts and path.suffix != ".so"} - set(
            names
        )
        assert sorted(left_out) == []
    assert "reproduce/prototxt/paper/base/train.prototxt" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_first_commands_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    site, folder = tmp_path / "site", tmp_path / "work"
    install: list[str | Path] = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    run([sys.executable, *install], tmp_path)
    folder.mkdir()
    (folder / "deploy.prototxt").write_text(NET)
    environment = os.environ | {"PYTHONPATH": str(site), "CAFFE_COMPAT_EXTENSION": "0"}
    place = run([sys.executable, "-c", "import caffe_compat; print(caffe_compat.__file__)"], folder, environment)
    assert Path(place.strip()).parent == site / "caffe_compat"
    command: list[str | Path] = [sys.executable, site / "bin" / "caffe-compat"]
    assert "InnerProduct" in run([*command, "summary", "deploy.prototxt"], folder, environment)
    said = run([*command, "reproduce", "--split", "0", "--dry-run", "--out", "run"], folder, environment)
    assert "65 networks" in said
    assert not [name for name in os.listdir(site / "bin") if name == "caffe"]  # it would stand before the real one


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CXX": "no-such-compiler"}, "setup.py: there is no C++ compiler no-such-compiler; on Debian run"),
        ({"CAFFE_COMPAT_CUDA": "yes"}, "setup.py: CAFFE_COMPAT_CUDA is 'yes'; expected 0, 1 or unset"),
        ({"CUDA_HOME": "/nowhere"}, "setup.py: CUDA_HOME is /nowhere, which has no bin/nvcc"),
    ],
)
def test_a_build_that_cannot_be_says_why_first(variables: dict[str, str], said: str) -> None:
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith(said)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_compiled_wheel_passes_tests_outside_the_tree(archive: Path, tmp_path: Path) -> None:
    """The one that make has left in dist/; without it, one is compiled."""
    wheels = list((ROOT / "dist").glob("*-linux_*.whl"))
    if not wheels:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
        run([*command, "--wheel-dir", tmp_path, archive], tmp_path)
        wheels = list(tmp_path.glob("*.whl"))
    site, folder = tmp_path / "site", tmp_path / "outside"
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheels[0]], tmp_path)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers =\n  slow\n  xdist_group(name)\n")
    environment = os.environ | {"PYTHONPATH": str(site)}
    place = "from caffe_compat import extension; print(extension.require('the test').__file__)"
    assert run([sys.executable, "-c", place], folder, environment).startswith(str(site))
    said = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OUTSIDE], folder, environment)
    assert re.search(r"^\.+", said, re.MULTILINE)
