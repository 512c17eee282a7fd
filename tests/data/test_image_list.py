from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data.image_list import ImageList, decode_resized, read_file, read_image
from caffe_compat.errors import DataError


def make_list(folder: Path, text: bytes) -> ImageList:
    (folder / "list.txt").write_bytes(text)
    return ImageList(folder / "list.txt")


def test_names_and_labels(tmp_path: Path) -> None:
    """The label stands behind the last space; the last line may lack its end."""
    images = make_list(tmp_path, b"a.png 3\nfolder/b c.png -1\nd.png +2x")
    assert [images[number] for number in range(len(images))] == [("a.png", 3), ("folder/b c.png", -1), ("d.png", 2)]
    assert images.line(1) == "folder/b c.png -1"
    assert images.label_problem() == f'{images.path}:3: label "+2x" is no whole number; read as 2, as in Caffe'


def test_a_line_without_a_label(tmp_path: Path) -> None:
    images = make_list(tmp_path, b"a.png 3\nb.png\nc.png x\n")
    assert images[1] == ("b.png", 0)
    assert images[2] == ("c.png", 0)
    assert images.label_problem() == f"{images.path}:2: no label; read as 0, as in Caffe"


def test_names_that_are_no_utf8_come_back(tmp_path: Path) -> None:
    name, _ = make_list(tmp_path, b"\xff.png 1\n")[0]
    (tmp_path / name).write_bytes(b"found")
    assert read_file(f"{tmp_path}/{name}") == b"found"


def test_images_are_read_as_asked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, pixels)
    assert (read_image(path) == pixels).all()
    assert read_image(path, 3, 4).shape == (3, 4, 3)
    assert (read_image(path, 3, 4) == cv2.resize(pixels, (4, 3))).all()
    gray = read_image(path, color=False)
    assert gray.shape == (6, 8, 1)
    assert (gray[:, :, 0] == cv2.imread(path, cv2.IMREAD_GRAYSCALE)).all()
    assert decode_resized(Path(path).read_bytes(), "x", 5, 5, color=False).shape == (5, 5, 1)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: cannot be read: No such file or directory; expected lines of `name"):
        ImageList(tmp_path / "absent")
    with pytest.raises(DataError, match=r"list.txt: is empty; expected lines of `name label`"):
        make_list(tmp_path, b"")
    with pytest.raises(DataError, match=r"absent.png: cannot be read: No such file"):
        read_image(str(tmp_path / "absent.png"))
    with pytest.raises(DataError, match=r"list.txt: 4 bytes that cannot be decoded"):
        make_list(tmp_path, b"text") and read_image(str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("label", "read"), [(b"cat", 0), (b"0.7", 0), (b"1e3", 1), (b"nan", 0), (b"3,4", 3), (b"n0144", 0)]
)
def test_text_and_fractions_are_no_labels(label: bytes, read: int, tmp_path: Path) -> None:
    images = make_list(tmp_path, b"a.png 3\nb.png " + label + b"\n")
    assert images[1] == ("b.png", read)
    told = f'{images.path}:2: label "{label.decode()}" is no whole number; read as {read}, as in Caffe'
    assert images.label_problem() == told


def test_whole_numbers_are_labels(tmp_path: Path) -> None:
    assert make_list(tmp_path, b"a.png 3\nb.png -1\r\nc.png +7 \n").label_problem() is not None  # " " ends the name
    assert make_list(tmp_path, b"a.png 3\nb.png -1\r\nc.png +7\n").label_problem() is None


def test_what_is_missing_names_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        ImageList("absent.txt")
    assert str(caught.value).endswith(f"(working directory {tmp_path})")
    with pytest.raises(DataError) as caught:
        ImageList(tmp_path / "absent.txt")
    assert "working directory" not in str(caught.value)


@pytest.mark.parametrize("label", [b"2147483648", b"-2147483649", b"9" * 5000])
def test_labels_that_no_datum_holds(tmp_path: Path, label: bytes) -> None:
    images = make_list(tmp_path, b"a.png 2147483647\nb.png -2147483648\nc.png 00000000000001\nd.png " + label)
    assert [images[number][1] for number in range(3)] == [2**31 - 1, -(2**31), 1]
    with pytest.raises(
        DataError, match=r"list.txt:4: label is -?\d{10,20}(\.\.\.)?; expected -2147483648 to 2147483647"
    ):
        images[3]


def test_a_zero_byte_in_a_name() -> None:
    with pytest.raises(DataError, match=r"^'a\\x00b': cannot be read: a zero byte in the name"):
        read_file("a\0b")
