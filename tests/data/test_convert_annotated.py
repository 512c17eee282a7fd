from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data.annotations import parse_annotated
from caffe_compat.data.convert_annotated import AnnotatedOptions, make_annotated_record
from caffe_compat.data.datum import decode_image
from caffe_compat.data.image_list import read_file
from tests.data.conftest import noise_images

GOLDEN = Path(__file__).parent.parent / "golden" / "forks" / "annotated_record.npz"
IMAGE = np.ascontiguousarray(noise_images(1)[0].transpose(1, 2, 0))  # 12 x 14
XML = (
    "<annotation><size><width>14</width><height>12</height></size><object><name>cat</name>"
    "<bndbox><xmin>7</xmin><ymin>3</ymin><xmax>14</xmax><ymax>6</ymax></bndbox></object></annotation>"
)


def made(path: Path, label: str | int = "a.xml", **options: object) -> tuple[bytes, int]:
    cv2.imwrite(str(path / "a.png"), IMAGE)
    (path / "a.xml").write_text(XML)
    settings = AnnotatedOptions(root=f"{path}/", labels={"cat": 4}, **options)  # type: ignore[arg-type]
    return make_annotated_record(f"{path}/a.png", label, settings, read_file, warn=pytest.fail)


@pytest.mark.parametrize("encoded", [False, True])
def test_records_equal_ssds(encoded: bool, tmp_path: Path) -> None:
    """Byte for byte."""
    with np.load(GOLDEN) as file:
        data = {name: file[name].tobytes() for name in ("image", "annotation", "raw", "encoded")}
    (tmp_path / "a.png").write_bytes(data["image"])
    (tmp_path / "a.xml").write_bytes(data["annotation"])
    options = AnnotatedOptions(root=f"{tmp_path}/", labels={"cat": 1, "dog": 2}, encoded=encoded)
    record, _ = make_annotated_record(f"{tmp_path}/a.png", "a.xml", options, read_file, warn=pytest.fail)
    assert record == data["encoded" if encoded else "raw"]


def test_raw_pixels_and_boxes(tmp_path: Path) -> None:
    record, values = made(tmp_path)
    assert values == IMAGE.size
    found = parse_annotated(record)
    assert found.type == "BBOX"
    assert found.datum.label == -1
    assert np.array_equal(found.datum.array(), IMAGE.transpose(2, 0, 1))
    assert found.annotations.rows(0).tolist() == [[0, 4, 0, 0.5, 0.25, 1.0, 0.5, 0]]


def test_files_stay_as_they_are(tmp_path: Path) -> None:
    record, values = made(tmp_path, encoded=True)
    found = parse_annotated(record).datum
    assert values == 0
    assert found.encoded
    assert bytes(found.data) == (tmp_path / "a.png").read_bytes()
    assert (found.channels, found.height, found.width) == (3, 12, 14)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"resize_height": 5, "resize_width": 9}, (5, 9)),
        ({"min_dim": 24}, (24, 28)),
        ({"min_dim": 24, "max_dim": 21}, (18, 21)),
        ({"max_dim": 7}, (6, 7)),
        ({"min_dim": 5, "max_dim": 50}, (12, 14)),
    ],
)
def test_sizes(options: dict[str, int], size: tuple[int, int], tmp_path: Path) -> None:
    found = parse_annotated(made(tmp_path, encode_type="png", **options)[0])
    assert np.array_equal(decode_image(found.datum.data), cv2.resize(IMAGE, size[::-1]))
    assert (found.datum.height, found.datum.width) == size
    assert found.annotations.boxes.tolist() == [[0.5, 0.25, 1.0, 0.5]]


def test_without_an_annotation_file_there_are_no_boxes(tmp_path: Path) -> None:
    found = parse_annotated(made(tmp_path, "absent.xml")[0])
    assert found.type == "BBOX"
    assert not len(found.annotations)


def test_labels_of_whole_images(tmp_path: Path) -> None:
    found = parse_annotated(made(tmp_path, 7, boxes=False)[0])
    assert found.type is None
    assert found.datum.label == 7
