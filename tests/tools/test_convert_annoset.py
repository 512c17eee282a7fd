from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.data import open_database
from caffe_compat.data.annotations import AnnotatedRecord, parse_annotated

BOX = "<bndbox><xmin>{}</xmin><ymin>0</ymin><xmax>8</xmax><ymax>4</ymax></bndbox>"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images of 8x8, of which the first two have boxes."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        cv2.imwrite(f"{number}.png", np.full((8, 8, 3), 10 * number, np.uint8))
        if number < 2:
            objects = f"<object><name>cat</name>{BOX.format(number)}</object>" * (number + 1)
            size = "<size><width>8</width><height>8</height></size>"
            Path(f"{number}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    Path("list.txt").write_text("".join(f"{i}.png {i}.xml\n" for i in range(3)))
    Path("map.prototxt").write_text('item { name: "cat" label: 1 }')
    return tmp_path


def records(path: Path) -> dict[bytes, AnnotatedRecord]:
    return {record.key: parse_annotated(record.value) for record in open_database(path)}


def convert(folder: Path, *flags: str) -> int:
    return main(["convert_annoset", *flags, f"{folder}/", "list.txt", "db"])


DETECTION = ("--anno_type=detection", "--label_map_file=map.prototxt")


def test_boxes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert convert(folder, *DETECTION, "--encoded") == 0
    found = records(Path("db"))
    assert list(found) == [b"00000000_0.png", b"00000001_1.png", b"00000002_2.png"]
    boxes = [record.annotations.rows(0)[:, 1:].tolist() for record in found.values()]
    assert boxes == [[[1, 0, 0, 0, 1, 0.5, 0]], [[1, 0, 0.125, 0, 1, 0.5, 0], [1, 1, 0.125, 0, 1, 0.5, 0]], []]
    assert all(record.datum.encoded for record in found.values())
    assert "A total of 3 images." in capfd.readouterr().err


def test_labels(folder: Path) -> None:
    Path("list.txt").write_text("0.png 5\n1.png 6\n")
    assert convert(folder) == 0
    assert [record.datum.label for record in records(Path("db")).values()] == [5, 6]


def test_shuffle_keeps_images_and_boxes_together(folder: Path) -> None:
    assert convert(folder, *DETECTION, "--shuffle", "--seed=1") == 0
    for key, record in records(Path("db")).items():
        number = int(key[9:10])
        assert len(record.annotations) == (number + 1) % 3
        assert record.datum.array()[0, 0, 0] == 10 * number


def test_odd_boxes_are_said_and_kept(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("0.xml").write_text(Path("0.xml").read_text().replace("<xmax>8", "<xmax>16"))
    assert convert(folder, *DETECTION) == 0
    assert records(Path("db"))[b"00000000_0.png"].annotations.boxes[0, 2] == 2
    assert "a box, [0, 0, 16, 4], exceeds the image of 8x8" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--anno_type=detection",), "needs --label_map_file"),
        (("--anno_type=detection", "--label_map_file=list.txt"), "list.txt:1"),
    ],
)
def test_refusals(flags: tuple[str, ...], message: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert convert(folder, *flags) != 0
    assert message in capfd.readouterr().err


def test_a_name_that_the_map_lacks_ends_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("map.prototxt").write_text('item { name: "dog" label: 1 }')
    assert convert(folder, *DETECTION) != 0
    assert 'the name "cat", which the label map lacks' in capfd.readouterr().err
    assert not Path("db").exists()
