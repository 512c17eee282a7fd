"""Commands that look at a net destroy nothing, and need neither its data nor its mean file."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat import Net
from caffe_compat.cli import main
from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.proto import write_blob

CROP = "transform_param { crop_size: 7 mean_file: 'absent.binaryproto' }"
REST = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "out" type: "HDF5Output" bottom: "ip" bottom: "label" hdf5_output_param { file_name: "out.h5" } }
"""
#: the fields of a data layer whose files are not there -> the shape of its data
SOURCES = {
    "Data": (f"data_param {{ source: 'absent' batch_size: 4 backend: LMDB }} {CROP}", "4x3x7x7"),
    "ImageData": ("image_data_param { source: 'absent' batch_size: 4 new_height: 5 new_width: 6 }", "4x3x5x6"),
    "WindowData": (f"window_data_param {{ source: 'absent' batch_size: 4 }} {CROP}", "4x3x7x7"),
    "MemoryData": (
        "memory_data_param { batch_size: 4 channels: 2 height: 5 width: 6 } transform_param { mean_file: 'absent' }",
        "4x2x5x6",
    ),
}
PRECIOUS = b"measured for a week"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out.h5").write_bytes(PRECIOUS)


def write_net(layer_type: str, fields: str) -> None:
    Path("net.prototxt").write_text(
        f'layer {{ name: "d" type: "{layer_type}" top: "data" top: "label" {fields} include {{ phase: TEST }} }}' + REST
    )


def look(command: str, *words: str) -> int:
    """Run a command on the net and check that no file has come, gone or changed."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    arguments = {
        "summary": ["summary", "net.prototxt", *words],
        "time": ["time", "--model=net.prototxt", "--phase=TEST", "--iterations=1", *words],
        "compare": ["compare", "net.prototxt", "net.prototxt", *words],
        "draw": ["draw", "net.prototxt", "net.dot"],
    }
    status = main(arguments[command])
    Path("net.dot").unlink(missing_ok=True)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert Path("out.h5").read_bytes() == PRECIOUS
    return status


@pytest.mark.parametrize("command", ["summary", "time", "compare", "draw"])
@pytest.mark.parametrize("layer_type", SOURCES)
def test_without_data(command: str, layer_type: str, capsys: pytest.CaptureFixture[str]) -> None:
    fields, shape = SOURCES[layer_type]
    write_net(layer_type, fields)
    assert look(command) == 0
    said = capsys.readouterr()
    if command != "draw":
        assert f"looked at without its data, as data {shape}, label 4 (" in said.err
    if command == "summary":
        row = next(line for line in said.out.splitlines() if line.startswith("d "))
        assert row.split()[:5] == ["d", layer_type, "data", f"{shape},", "label"]


def test_the_data_say_their_shape_where_only_the_mean_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    write_lmdb("db", [(b"0", encode_datum(np.zeros((1, 9, 8), np.uint8), 1))])
    write_net("Data", "data_param { source: 'db' batch_size: 4 backend: LMDB } transform_param { mean_file: 'absent' }")
    assert look("summary") == 0
    said = capsys.readouterr()
    assert "data 4x1x9x8, label 4" in said.out
    assert "absent" in said.err


def test_data_that_are_there_are_read_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    write_lmdb("db", [(b"0", encode_datum(np.full((1, 9, 8), 50, np.uint8), 1))])
    write_blob("mean.binaryproto", np.ones((1, 9, 8), np.float32))
    write_net(
        "Data",
        "data_param { source: 'db' batch_size: 4 backend: LMDB } transform_param { mean_file: 'mean.binaryproto' }",
    )
    for command in ("summary", "time", "compare"):
        assert look(command) == 0
    assert "looked at" not in capsys.readouterr().err


def test_compare_gives_both_sides_the_same_noise(capsys: pytest.CaptureFixture[str]) -> None:
    write_net("Data", SOURCES["Data"][0])
    Path("other.prototxt").write_text(
        'input: "data" input_shape { dim: 4 dim: 3 dim: 7 dim: 7 } input: "label" input_shape { dim: 4 }' + REST
    )
    assert main(["compare", "net.prototxt", "other.prototxt"]) == 0
    assert main(["compare", "other.prototxt", "net.prototxt"]) == 0
    assert "4 blobs agree" in capsys.readouterr().out
    assert Path("out.h5").read_bytes() == PRECIOUS


def test_shape(capsys: pytest.CaptureFixture[str]) -> None:
    write_net("Data", "data_param { source: 'absent' batch_size: 4 backend: LMDB }")
    assert look("summary") == 1
    error = capsys.readouterr().err
    assert "absent" in error
    assert "transform_param has no crop_size" in error
    assert "give --shape data=... --shape label=..." in error
    assert error.count("\n") == 1
    assert look("summary", "--shape", "data=64x1x28x28", "--shape", "label=64") == 0
    assert "data 64x1x28x28, label 64" in capsys.readouterr().out


def test_datasets_of_hdf5_need_their_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    write_net("HDF5Data", "hdf5_data_param { source: 'absent.txt' batch_size: 4 }")
    assert look("summary") == 1
    assert "not in its fields: give --shape data=... --shape label=..." in capsys.readouterr().err
    assert look("time", "--shape", "data=4x2", "--shape", "label=4") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shape", "data"], "--shape data: expected BLOB=AxBxC"),
        (["--shape", "data=4x-1"], "--shape data=4x-1: expected BLOB=AxBxC"),
        (["--shape", "data=4x2"], 'layer "d" has a top label, too; give its shape'),
        (["--shape", "elsewhere=4"], "--shape elsewhere: no data layer of net.prototxt has a top of this name"),
    ],
)
def test_refusals(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(*("Data", SOURCES["Data"][0]))
    assert look("summary", *words) == 1
    assert message in capsys.readouterr().err


def test_eight_gigabytes_of_weights_take_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.prototxt").write_text(
        'input: "data" input_shape { dim: 1 dim: 40000 }'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"'
        ' inner_product_param { num_output: 50000 weight_filler { type: "gaussian" } } }'
    )
    assert look("summary") == 0  # eight gigabytes
    assert "2,000,050,000" in capsys.readouterr().out


def test_a_net_in_python_writes_when_it_runs_only() -> None:
    write_net("DummyData", "dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } }")
    net = Net("net.prototxt", phase="TEST")
    assert Path("out.h5").read_bytes() == PRECIOUS
    net()
    net.close()
    assert Path("out.h5").read_bytes() != PRECIOUS
