import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.data import encode_datum, encode_image, write_lmdb
from caffe_compat.data.annotations import encode_annotated


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    raw = np.arange(3 * 10 * 20, dtype=np.uint16).astype(np.uint8).reshape(3, 10, 20)
    file = cv2.imencode(".png", raw.transpose(1, 2, 0).copy())[1].tobytes()
    values = [
        encode_datum(raw, 3),
        encode_datum(raw, 3),
        encode_image(file, 5),
        encode_datum(raw.astype(np.float32), 9),
    ]
    write_lmdb(tmp_path / "db", ((f"{i}", value) for i, value in enumerate(values)))
    return tmp_path / "db"


def test_counts_shapes_labels_and_sheet(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = mixed.with_name("sheet.png")
    assert main(["inspect_db", str(mixed), f"--sheet={sheet}"]) == 0
    printed = capsys.readouterr().out
    assert "LMDB, 4 records, keys '0' to '3'" in printed
    assert "2 x 3x10x20 uint8" in printed
    assert "1 x PNG file" in printed
    assert "1 x 3x10x20 float32" in printed
    assert "labels: 3 different, 3 to 9, 1 to 2 records each" in printed
    image = cv2.imread(str(sheet))
    assert image is not None
    assert image.shape == (192, 192, 3)


def test_json(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect_db", str(mixed), "--json"]) == 0
    shapes = {"3x10x20 uint8 (channels x height x width)": 2, "PNG file": 1}
    assert json.loads(capsys.readouterr().out) == {
        "backend": "LMDB",
        "records": 4,
        "keys": {"first": "0", "last": "3"},
        "shapes": {**shapes, "3x10x20 float32 (channels x height x width)": 1},
        "labels": {"3": 2, "5": 1, "9": 1},
        "boxes": {},
        "damaged": [],
    }


def test_damaged_records_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lmdb(tmp_path / "db", [("a", b"\x08"), ("b", encode_datum(np.zeros((1, 2, 2), np.uint8), 1))])
    assert main(["inspect_db", str(tmp_path / "db")]) == 1
    assert "damaged: record 'a': record ends inside a field" in capsys.readouterr().out


def test_images_with_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    raw = encode_datum(np.zeros((3, 4, 6), np.uint8), None)
    values = [
        encode_annotated(raw, [(7, box, False), (2, box, False)]),
        encode_annotated(raw, [(7, box, True)]),
        encode_annotated(encode_datum(np.zeros((1, 2, 2), np.uint8), 4), [], None),
    ]
    write_lmdb(tmp_path / "db", ((f"{i}", value) for i, value in enumerate(values)))
    assert main(["inspect_db", str(tmp_path / "db"), f"--sheet={tmp_path / 'sheet.png'}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:7] == [
        "          2 x 3x4x6 uint8 (channels x height x width)",
        "          1 x 1x2x2 uint8 (channels x height x width)",
        "  labels: 1 different, 4 to 4, 1 to 1 records each",
        "          4:       1 ########################################",
        "  labels of boxes: 2 different, 2 to 7, 1 to 2 boxes each",
        "          2:       1 ####################",
    ]
    image = cv2.imread(str(tmp_path / "sheet.png"))
    assert image is not None
    assert image.shape == (192, 192, 3)
