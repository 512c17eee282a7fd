"""Inputs that went wrong once (``cases/``, README there): each ends in its right value, or in one line.

``python -m tests.test_cases`` writes ``cases/endings.json`` anew: what each input of ``hostile`` and ``found`` ends in.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from caffe_compat import random
from caffe_compat.cli import main
from caffe_compat.data.convert import ConvertOptions, convert_images
from caffe_compat.errors import CaffeCompatError
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, read_caffemodel
from caffe_compat.solver import Log
from caffe_compat.solver.snapshot import find_snapshot
from tests.fuzz.__main__ import make_seeds
from tests.fuzz.readers import READERS
from tests.fuzz.worker import Outcome, Worker

CASES = Path(__file__).parent / "cases"
ENDINGS = CASES / "endings.json"
_LIBRARY = re.compile(
    "((?:cannot be (?:read|decoded)|does not run on)[^:]*): .*", re.DOTALL
)  # what follows is a library's
_FREE = re.compile(r"\d+ are free")
TIMEOUT_S = 60.0  # on a machine that is busy; each takes less than a second

#: by the start of a hostile file's name, the longest first: who reads it
READER_OF = {
    "compare_npz": "npz",
    "datum": "datum",
    "hdf5_list": "hdf5_list",
    "hdf5_weights": "hdf5_weights",
    "hostile_blob": "mean_binaryproto",
    "hostile_convert": "hostile_list",
    "hostile_data": "hostile_net",
    "hostile_hdf5data": "hostile_net",
    "hostile_imagedata": "hostile_net",
    "hostile_list": "image_list",
    "hostile_lmdb_page": "hostile_net",
    "hostile_log": "log",
    "hostile_npy": "mean_npy",
    "idx_gz": "idx",
    "image_header": "image",
    "index_file": "index_file",
    "log_gz": "log_gz",
    "mean_npy": "mean_npy",
    "net_run": "forward",
    "net_run_caffe_engine": "engine",
    "resume_json": "resume",
    "schema": "schema",
    "torch_pt": "pt",
    "window_file": "window_file",
}
#: what the nets name, in our folder
FILE_OF = {
    b"pb1": b"bomb",
    b"pb2": b"bomb",
    b"cor": b"flipped.mdb",
    b"bomb.txt": b"sparse.txt",
    b"hl.txt": b"latin1.txt",
    b"idl.txt": b"big.txt",
    b"idl2.txt": b"small.txt",
}
#: empty files: the case is in the name, and tests of the tool have it (tests/data/test_lmdb.py, test_image_size.py)
NAMES_ONLY = [
    path.name for path in (CASES / "hostile").iterdir() if path.name.endswith(".txt") and not path.stat().st_size
]
AUTO_RESUME = sorted((CASES / "hostile").glob("auto_resume_*"))
READ_ALONE = [
    path
    for path in sorted([*(CASES / "hostile").iterdir(), *(CASES / "found").iterdir()])
    if path.name not in NAMES_ONLY and path not in AUTO_RESUME
]


def reader_of(path: Path) -> str:
    """The reader that a file was made for."""
    name = path.name
    if path.parent.name == "found":
        return name.partition("-")[0]
    if name.endswith(("_forward.prototxt", "_summary.prototxt")) and "lmdb" not in name:
        return name.rpartition("_")[2].removesuffix(".prototxt")
    return READER_OF[max((start for start in READER_OF if name.startswith(start)), key=len)]


class Reading:
    """A worker for each reader, under the fuzzer's limit of memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: dict[str, Worker] = {}

    def run(self, path: Path) -> Outcome:
        name = reader_of(path)
        folder = self._folder / name
        if name not in self._workers:
            folder.mkdir()
            make_seeds(READERS[name], folder)
            self._workers[name] = Worker(READERS[name], folder)
        data = re.sub(rb"/dev/shm/h_hostile/([\w.]+)", lambda match: FILE_OF[match[1]], path.read_bytes())
        return self._workers[name].run(data, TIMEOUT_S)

    def ending(self, path: Path) -> str:
        """How it ends, without folders, and without what is a library's own words."""
        outcome = self.run(path)
        said = re.sub(rf"{re.escape(str(self._folder))}/\w+/?", "", outcome.text)
        said = _FREE.sub("N are free", _LIBRARY.sub(r"\1", said))
        return f"{outcome.kind}: {said}" if said else outcome.kind

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    made = Reading(tmp_path_factory.mktemp("cases").resolve())
    yield made
    made.close()


@pytest.mark.xdist_group("cases")
@pytest.mark.parametrize("path", READ_ALONE, ids=lambda path: path.name)
def test_ends_in_its_value_or_in_one_line(path: Path, reading: Reading) -> None:
    ending = reading.ending(path)
    assert ending.startswith(("read", "refused: "))
    assert ending == json.loads(ENDINGS.read_text())[path.name]


def test_each_case_has_its_test() -> None:
    assert sorted(json.loads(ENDINGS.read_text())) == sorted(path.name for path in READ_ALONE)
    names = {path.name for path in CASES.iterdir() if path.is_dir()} - {"hostile", "found"}
    assert names == FOLDERS
    assert len(NAMES_ONLY) == 3


@pytest.mark.parametrize("path", AUTO_RESUME, ids=lambda path: path.name)
def test_a_damaged_resume_file_makes_auto_take_the_snapshot_before(path: Path, tmp_path: Path) -> None:
    shutil.copy(CASES / "label_out_of_range" / "h_iter_2.caffemodel", tmp_path)
    for number in (2, 4):
        shutil.copy(CASES / "label_out_of_range" / "h_iter_2.solverstate", tmp_path / f"h_iter_{number}.solverstate")
    shutil.copy(path, tmp_path / "h_iter_4.resume")
    log = Log()
    found = find_snapshot(tmp_path / "h", log)
    assert found == tmp_path / "h_iter_2.solverstate"


@pytest.mark.parametrize("name", ["hostile_convert_resize_5e9.txt", "hostile_convert_threads_-1.txt"])
def test_flags_of_convert_imageset(name: str, tmp_path: Path) -> None:
    options = ConvertOptions(resize_height=5 * 10**9, resize_width=5 * 10**9) if "resize" in name else ConvertOptions()
    message = "cannot be resized to 5000000000x5000000000" if "resize" in name else "threads is -1; expected at least 1"
    with pytest.raises(CaffeCompatError, match=message):
        convert_images("", [("i.png", 1)], tmp_path / "db", options, threads=-1 if "threads" in name else 1)


# -- the folders, through the tool they were made for ------------------------------------------

FOLDERS = {
    *("accuracy_check", "clip_number_clash", "fp16_shrunk", "hdf5_source_is_h5", "input_without_shape"),
    *("label_out_of_range", "layer_named_fast", "layer_named_param_pt2", "lmdb_short_but_valid", "lstm_onnx"),
    *("onnx_batch", "onnx_name_clash", "pt2_input_names", "raw_data", "schema_ceil_mode", "schema_subfield_ignored"),
    *("unnamed_layers_saved", "weights_do_not_match"),
}


class Tool:
    """Runs a command in a copy of a case's folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys

    def enter(self, name: str) -> None:
        shutil.copytree(CASES / name, self._folder / name)
        os.chdir(self._folder / name)

    def __call__(self, *words: str) -> str:
        """What a command that succeeds prints."""
        with random.scope(1):
            status = main(words)
        printed = self._capsys.readouterr()
        assert status == 0, printed.err
        return printed.out + printed.err

    def refused(self, *words: str) -> str:
        """The one line of a command that fails."""
        with random.scope(1):
            assert main(words) == 1
        lines = self._capsys.readouterr().err.splitlines()
        (line,) = [line for line in lines if line.startswith(f"caffe-compat {words[0]}: ")]
        assert line == lines[-1]
        return line.removeprefix(f"caffe-compat {words[0]}: ")


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Tool]:
    before, schema = Path.cwd(), caffe_pb2.current_schema()
    yield Tool(tmp_path, capsys)
    os.chdir(before)
    caffe_pb2.use_schema(schema)


def test_unnamed_layers_saved(tool: Tool) -> None:
    tool.enter("unnamed_layers_saved")
    tool("train", "--solver=solver.prototxt")
    shapes = [
        [blob.shape for blob in layer.blobs if blob is not None] for layer in read_caffemodel("snap_iter_3.caffemodel")
    ]
    assert shapes == [[], [(5, 3), (5,)], [], [(2, 5), (2,)], []]
    assert "layer" in tool.refused("train", "--solver=solver.prototxt", "--snapshot=snap_iter_3.solverstate")


def test_weights_do_not_match(tool: Tool) -> None:
    """What is left out on either side is said by every tool; with --strict it is an error."""
    tool.enter("weights_do_not_match")
    for words in (
        ("convert", "net.prototxt", "net.caffemodel", "net.onnx"),
        ("compare", "net.prototxt", "net.prototxt", "--weights", "net.caffemodel"),
        ("test", "--model=net.prototxt", "--weights=net.caffemodel", "--iterations=1"),
    ):
        said = tool(*words)
        assert "fc8" in said
        assert "fc8_new" in said
        assert "net.caffemodel: does not fit net.prototxt wholly" in tool.refused(*words, "--strict")
    with pytest.warns(UserWarning, match='"fc8"; left as they were, as no blobs came for them: "fc8_new"'):
        Net("net.prototxt", "net.caffemodel")


@pytest.mark.filterwarnings("ignore")
def test_accuracy_check(tool: Tool) -> None:
    tool.enter("accuracy_check")
    for name in ("net.pt", "net.safetensors"):
        tool("convert", "net.prototxt", "net.caffemodel", name)
        assert "blobs agree" in tool("compare", "net.prototxt", "net.prototxt", "--weights", name)


def test_layer_named_fast(tool: Tool) -> None:
    tool.enter("layer_named_fast")
    net = Net("net.prototxt", "net.caffemodel", phase="TEST")
    weight, bias = read_caffemodel("net.caffemodel")[-1].blobs
    assert weight is not None
    assert bias is not None
    data = torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4)
    expected = data.numpy().reshape(2, 48) @ weight.T + bias
    np.testing.assert_allclose(net(data)["fast"].detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["layer_named_param_pt2", "pt2_input_names"])
def test_names_in_a_pt2(name: str, tool: Tool) -> None:
    tool.enter(name)
    assert "equal the source net" in tool("convert", "net.prototxt", "net.caffemodel", "net.pt2")


def test_onnx_name_clash(tool: Tool) -> None:
    tool.enter("onnx_name_clash")
    tool("convert", "net.prototxt", "net.caffemodel", "net.onnx")
    assert [output.name for output in onnx.load("net.onnx").graph.output] == ["a/5"]


def test_onnx_batch(tool: Tool) -> None:
    """The batch is as in the prototxt, or of any size with --dynamic."""
    tool.enter("onnx_batch")
    for words, batch in (([], 1), (["--dynamic", "batch"], "batch")):
        tool("convert", "net.prototxt", "net.caffemodel", "net.onnx", *words)
        (value,) = onnx.load("net.onnx").graph.input
        size = value.type.tensor_type.shape.dim[0]
        assert (size.dim_param or size.dim_value) == batch


def test_lstm_onnx(tool: Tool) -> None:
    tool.enter("lstm_onnx")
    assert "1 output(s) equal the source net's; onnxruntime" in tool(
        "convert", "net.prototxt", "net.caffemodel", "net.onnx"
    )


def test_schema_ceil_mode(tool: Tool) -> None:
    tool.enter("schema_ceil_mode")
    assert "pool1 1x2x3x3" in tool("summary", "net.prototxt", "--schema", "extra.proto")


def test_schema_subfield_ignored(tool: Tool) -> None:
    tool.enter("schema_subfield_ignored")
    assert "pool1 1x1x56x56" in tool("summary", "pool.prototxt", "--schema", "extra.proto")
    said = tool.refused("summary", "drop.prototxt", "--schema", "extra.proto")
    assert said.startswith('drop.prototxt:2: layer "d" (Dropout): dropout_param.sqrt_scale is no field of Caffe 1.0')


def test_input_without_shape(tool: Tool) -> None:
    tool.enter("input_without_shape")
    said = tool.refused("summary", "net.prototxt")
    assert said.startswith('net.prototxt:2: layer "e": takes the net\'s input "a", which has no sizes; add input_shape')


def test_raw_data(tool: Tool) -> None:
    tool.enter("raw_data")
    for name in ("fp16", "raw32"):
        net = Net("t.prototxt", f"{name}.caffemodel", phase="TEST")
        assert net.get_parameter("fc.weight").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_fp16_shrunk(tool: Tool) -> None:
    tool.enter("fp16_shrunk")
    layers = {layer.name: layer for layer in read_caffemodel("fp16.caffemodel")}
    conv = layers["conv1"].blobs[0]
    assert conv is not None
    assert conv.shape == (8, 3, 7, 7)
    assert conv.dtype == np.float32
    assert np.array_equal(conv, conv.astype(np.float16))
    assert 0 < np.abs(conv).max() < 10
    assert "blobs agree" in tool("compare", "net.prototxt", "net.prototxt", "--weights", "fp16.caffemodel")


def test_clip_number_clash(tool: Tool) -> None:
    tool.enter("clip_number_clash")
    name = "mscnn_smooth_l1_148.caffemodel"
    said = tool("upgrade_net_proto_binary", name, "new.caffemodel")
    # The numbers inside are those of none of the forks that have 148 in a layer of this type.
    assert 'layer "fc" (InnerProduct): field 148 is no clip_param but a fork\'s; left out' in said
    for file in (name, "new.caffemodel"):
        weight = read_caffemodel(file)[1].blobs[0]
        assert weight is not None
        assert weight.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_label_out_of_range(tool: Tool) -> None:
    tool.enter("label_out_of_range")
    said = tool.refused("train", "--solver=solver.prototxt")
    assert said.startswith(
        'net.prototxt:3: layer "loss" (SoftmaxWithLoss): label 3 is out of range; expected 0 to 2 (bottom "label", '
        "value 4 of 6); correct the labels"
    )


def test_hdf5_source_is_h5(tool: Tool) -> None:
    tool.enter("hdf5_source_is_h5")
    assert tool.refused("train", "--solver=xh.prototxt") == (
        'n_h2.prototxt:1: layer "d" (HDF5Data): i64.h5: is an HDF5 file; source has to be a text file with the names '
        "of such files"
    )


def test_lmdb_short_but_valid(tool: Tool) -> None:
    tool.enter("lmdb_short_but_valid")
    assert "Optimization Done" in tool("train", "--solver=solver.prototxt")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        reads = Reading(Path(name).resolve())
        endings = {path.name: reads.ending(path) for path in READ_ALONE}
        reads.close()
    ENDINGS.write_text(json.dumps(endings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
