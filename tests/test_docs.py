"""What README and docs say: Python blocks run, commands are ones that we have, links lead somewhere."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from caffe_compat import Net
from caffe_compat.cli import add_arguments, from_gflags, module_of
from caffe_compat.data import encode_datum, write_lmdb
from reproduce import options

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "examples" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
NET = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 4 kernel_size: 5 stride: 2
        weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc1" type: "InnerProduct" bottom: "conv1" top: "fc1" inner_product_param { num_output: 5
        weight_filler { type: "xavier" } } }
layer { name: "fc7" type: "InnerProduct" bottom: "fc1" top: "fc7" inner_product_param { num_output: 5
        weight_filler { type: "xavier" } } }
layer { name: "fc2" type: "InnerProduct" bottom: "fc7" top: "fc2" inner_product_param { num_output: 3
        weight_filler { type: "xavier" } } }
"""  # noqa: E501
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }'
DATA = """layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.01 }
  data_param { source: "train_lmdb" batch_size: 4 backend: LMDB } }"""
SOFTMAX = 'layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }'
COLORS = """
layer { name: "data_l" type: "Input" top: "data_l" input_param { shape { dim: 1 dim: 313 dim: 1 dim: 1 } } }
layer { name: "conv8_313_rh" type: "Scale" bottom: "data_l" top: "rh" }
layer { name: "class8_ab" type: "Convolution" bottom: "rh" top: "ab"
        convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
"""
SOLVER = """net: "train.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 4 snapshot_prefix: "snap" """


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files under the names that the pages use, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(INPUT + NET + SOFTMAX)
    Path("train.prototxt").write_text(DATA + NET + LOSS)
    Path("solver.prototxt").write_text(SOLVER)
    Net("deploy.prototxt").save("weights.caffemodel")
    Path("colorization_deploy_v2.prototxt").write_text(COLORS)
    Net("colorization_deploy_v2.prototxt", phase="TEST").save("colorization_release_v2.caffemodel")
    np.save("pts_in_hull.npy", np.zeros((313, 2)))
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    cv2.imwrite("cat.jpg", images[0].transpose(1, 2, 0))
    write_lmdb("train_lmdb", ((b"%d" % i, encode_datum(image, i % 3)) for i, image in enumerate(images)))


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=page_id)
def test_python_blocks_run(page: Path) -> None:
    document = Document.parse(str(page), Sybil([PythonCodeBlockParser()]).parsers[0])
    layer = torch.nn.Linear(3, 2)
    document.namespace.update(images=torch.zeros(1, 3, 32, 32), weights=[layer.weight], biases=[layer.bias])
    examples = list(document.examples())
    assert len(examples) == page.read_text().count("```python")
    for example in examples:
        example.evaluate()


def commands_of(page: Path) -> Iterator[str]:
    """The command lines in its blocks and tables."""
    text = page.read_text()
    for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", text)


COMMANDS = [
    pytest.param(line, id=f"{page_id(page)}: {line}")
    for page in PAGES
    for line in dict.fromkeys(commands_of(page))
    if re.match(r"(caffe-compat|python reproduce/run_paper\.py) \S", line) and "..." not in line
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_ones_that_we_have(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "python" and words[1:] != ["--help"]:
        options.make_parser("").parse_args(words[1:])
    if program == "python":
        return
    words = words[1:] if words[0] == "caffe" else words
    words = words[1:] if words[:1] == ["help"] else words
    if not words or words[0].startswith(("-", "<")) or words[0].isupper():  # --version, <command>
        return
    name = words[0].split("|")[0]
    module = module_of(name)
    assert module is not None, f"there is no command {name}"
    tool = importlib.import_module(module)
    if len(words) > 1 and hasattr(tool, "add_arguments") and not {"|", "[", ">"} & set("".join(words[1:])):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        add_arguments(parser, tool)
        given = from_gflags(parser, words[1:])[0]
        if any(not word.startswith("-") for word in given):  # a whole command, not the name of a flag
            parser.parse_args(given)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        assert there.exists(), f"{page_id(page)}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page_id(page)}: {target}"


def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api.html").read_text()
    for name in (
        "caffe_compat.Net",
        "caffe_compat.Solver",
        "caffe_compat.ops.lrn",
        "caffe_compat.data.Loader",
        "caffe_compat.NetError",
    ):
        assert f'id="{name}"' in page
