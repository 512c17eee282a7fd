from pathlib import Path

import pytest

from caffe_compat.data.voc_annotation import Box, read_label_map, read_voc
from caffe_compat.errors import CaffeCompatError, DataError

LABELS = {"cat": 1, "dog": 2}
SIZE = "<size><width>200</width><height>100</height></size>"


def thing(name: str, edges: tuple[object, ...], more: str = "") -> str:
    xmin, ymin, xmax, ymax = edges
    corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def read(path: Path, text: str) -> tuple[list[Box], list[str]]:
    (path / "a.xml").write_text(f"<annotation>{text}</annotation>")
    warnings: list[str] = []
    return read_voc(path / "a.xml", (100, 200), LABELS, warnings.append), warnings


def test_boxes(tmp_path: Path) -> None:
    text = SIZE + thing("dog", (20, 10, 100, 50), "<difficult>1</difficult>") + thing("cat", (0, 0, 200, "25.7"))
    boxes, warnings = read(tmp_path, text)
    assert boxes == [
        Box(2, (pytest.approx(0.1), pytest.approx(0.1), 0.5, 0.5), True),  # type: ignore[arg-type]
        Box(1, (0.0, 0.0, 1.0, 0.25), False),
    ]
    assert not warnings


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    boxes, warnings = read(tmp_path, thing("cat", (150, 10, 300, 50)) + thing("cat", (50, 10, 40, 50)))
    assert list(boxes[0].edges) == pytest.approx([0.75, 0.1, 1.5, 0.5])
    assert [text.split(": ", 1)[1] for text in warnings] == [
        "tells no size of its image; taken from the image",
        "a box, [150, 10, 300, 50], exceeds the image of 100x200 (height x width)",
        "a box, [50, 10, 40, 50], has its edges in the wrong order",
    ]
    _, warnings = read(tmp_path, SIZE.replace("200", "300"))
    assert warnings[0].endswith("is for an image of 100x300 (height x width), which has 100x200")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (thing("cow", (0, 0, 1, 1)), 'the name "cow", which the label map lacks'),
        (thing("cat", ("x", 0, 1, 1)), "xmin is 'x'; expected a number"),
        ("<object>", "cannot be read as an XML file"),
    ],
)
def test_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        read(tmp_path, SIZE + text)


def test_label_map(tmp_path: Path) -> None:
    path = tmp_path / "map.prototxt"
    path.write_text('item { name: "cat" label: 1 display_name: "a cat" } item { name: "cat" label: 3 }')
    assert read_label_map(path) == {"cat": 3}
    with pytest.raises(DataError, match='name "cat" is given twice'):
        read_label_map(path, unique=True)
