"""The examples of every command's --help are run, on small files under the names that they use."""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat import Net
from caffe_compat.cli import commands, main, module_of
from caffe_compat.data import encode_datum, write_lmdb

#: what such files do not serve; their own tests run them
ELSEWHERE = {
    "device_query": "needs a GPU",
    "tune": "needs a GPU",
    "fidelity": "runs all golden cases",
    "plot_paper": "a table of results is a matter of its own",
    "prepare_imagenet": "its exit status tells ImageNet from other images",
    "reproduce": "trains",
}
#: on a machine without a GPU
GPU = (" --gpu 0", " GPU DEVICE_ID=1")
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }'
DATA = """layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.01 }
  data_param { source: "train_lmdb" batch_size: 2 backend: LMDB } }"""
NET = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 2 kernel_size: 5
        weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc7" type: "InnerProduct" bottom: "conv1" top: "fc7" inner_product_param { num_output: 3
        weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc7" top: "prob" }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc7" bottom: "label" top: "loss" }'
SOLVER = 'net: "train_val.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "snap" '
OLD_NET = (
    'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 '
    'layers { name: "r" type: RELU bottom: "data" top: "r" }'
)
BOXES = """<annotation><size><width>16</width><height>16</height></size><object><name>cat</name><bndbox><xmin>1</xmin>
<ymin>0</ymin><xmax>8</xmax><ymax>4</ymax></bndbox></object></annotation>"""


def examples() -> list[tuple[str, str]]:
    """(command, line)"""
    found = []
    for name in commands():
        if name not in ELSEWHERE:
            text = importlib.import_module(module_of(name) or "").__doc__ or ""
            lines = re.findall(r"^ *caffe-compat (.+)$", text, re.MULTILINE)
            found += [(name, line) for line in lines if ".pt2" not in line]  # takes ten seconds; test_convert.py has it
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples read."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("a", "deploy"):
        (folder / f"{name}.prototxt").write_text(INPUT + NET)
    for name in ("net", "train_val"):
        (folder / f"{name}.prototxt").write_text(DATA + NET + LOSS)
    for name in ("solver", "finetune"):
        (folder / f"{name}.prototxt").write_text(SOLVER)
    net = Net(folder / "deploy.prototxt", phase="TEST")
    for name in ("a", "w", "net", "base", "old", "snap_iter_1000"):
        net.save(folder / f"{name}.caffemodel")
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), dtype=np.uint8)
    write_lmdb(folder / "train_lmdb", ((b"%d" % i, encode_datum(image, i % 3)) for i, image in enumerate(images)))
    cv2.imwrite(str(folder / "cat.jpg"), images[0].transpose(1, 2, 0))
    return folder


def prepare(command: str, line: str) -> None:
    """In the working directory what one command alone needs, or wants to be absent."""
    if "b.onnx" in line:
        assert main(["convert", "a.prototxt", "a.caffemodel", "b.onnx"]) == 0
    if "blobs_from_elsewhere.npz" in line:
        top = Net("net.prototxt", "w.caffemodel", phase="TEST").extract(["data", "label", "fc7"])
        data, label, fc7 = (value.detach().numpy() for value in top.values())
        np.savez("blobs_from_elsewhere.npz", data=data, label=label, fc7=fc7)
    if command in ("convert_imageset", "convert_annoset"):
        shutil.rmtree("train_lmdb")
        folder = Path("images" if command == "convert_imageset" else "VOCdevkit")
        folder.mkdir()
        shutil.copy("cat.jpg", folder)
        (folder / "cat.xml").write_text(BOXES)
        Path("list.txt").write_text(f"cat.jpg {'0' if command == 'convert_imageset' else 'cat.xml'}\n")
        Path("labels.prototxt").write_text('item { name: "cat" label: 1 }')
    if command.startswith("upgrade"):
        Path("old.prototxt").write_text("solver_type: ADAM" if "solver" in command else OLD_NET)


@pytest.fixture
def _here(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the files."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(("command", "line"), examples())
def test_an_example_runs(command: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    prepare(command, line)
    capfd.readouterr()
    for words in GPU:
        line = line.replace(words, "")
    assert main(shlex.split(line.partition(" > ")[0], comments=True)) == 0
    assert not re.findall(r"^(warning|caffe-compat).*", capfd.readouterr().err, re.MULTILINE)


def test_what_is_run_elsewhere_is_still_there() -> None:
    assert set(ELSEWHERE) <= set(commands())
