"""``extract_features`` against Caffe's own databases."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from caffe_compat import Net
from caffe_compat.cli import main
from caffe_compat.data import LMDBReader, parse_datum, write_lmdb

GOLDEN = Path(__file__).parents[1] / "golden" / "tool" / "extract_features"
TOLERANCE = 1e-4  # float32 sums in another order
ARGUMENTS = ["w.caffemodel", "net.prototxt", "ip,relu", "fa,fb", "3", "lmdb"]


@pytest.fixture(autouse=True)
def _case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN, tmp_path / "case")
    monkeypatch.chdir(tmp_path / "case")


def test_features_are_caffes() -> None:
    assert main(["extract_features", *ARGUMENTS]) == 0
    expected = dict(np.load("expected.npz"))
    reader = LMDBReader("fa")
    records = {record.key.decode(): parse_datum(record.value) for record in reader}
    reader.close()
    assert {f"feature:{key}" for key in records} == set(expected)
    for key, datum in records.items():
        theirs = expected[f"feature:{key}"]
        assert (datum.height, datum.width) == (1, 1)
        np.testing.assert_allclose(datum.float_data, theirs, rtol=TOLERANCE, atol=TOLERANCE * np.abs(theirs).max())
    assert Path("fb").is_dir()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (2, "ip", "1 blobs (ip) but 2 databases (fa,fb)"),
        (2, "ip,nothing", 'net.prototxt: there is no blob "nothing"'),
        (5, "rocksdb", 'db_type is "rocksdb"; expected lmdb'),
        (0, "gone", "gone: cannot be read"),
    ],
)
def test_refusals(place: int, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = list(ARGUMENTS)
    arguments[place] = value
    assert main(["extract_features", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not Path("fa").exists()


def test_an_existing_database_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    write_lmdb("fb", [("0", b"x")])
    assert main(["extract_features", *ARGUMENTS]) == 1
    assert "fb: already exists" in capsys.readouterr().err


def test_weights_that_do_not_fit_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    net = Path("net.prototxt").read_text()
    layers = list(Net("net.prototxt", phase="TEST").params)
    for name in layers:
        net = net.replace(f'name: "{name}"', f'name: "{name}_new"')
    Path("net.prototxt").write_text(net)
    assert main(["extract_features", *ARGUMENTS]) == 1
    said = capsys.readouterr().err
    for name in layers:
        assert f"Ignoring source layer {name}" not in said
    assert "w.caffemodel: nothing fits net.prototxt: the file has blobs for the layers" in said
    assert not Path("fa").exists()
    Path("net.prototxt").write_text(net.replace('name: "conv_new"', 'name: "conv"'))
    assert main(["extract_features", *ARGUMENTS, "CPU", "--strict"]) == 1
    said = capsys.readouterr().err
    assert "Ignoring source layer ip\n" in said
    assert 'net.prototxt wholly: ignored, as the net has no such layer: "ip"; left as they were' in said
    assert main(["extract_features", *ARGUMENTS]) == 0
    assert 'w.caffemodel: ignored, as the net has no such layer: "ip"; left as they were' in capsys.readouterr().err
