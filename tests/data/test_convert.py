"""Images to a database, called from Python; tests/tools/test_convert_imageset.py has Caffe's own results."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data import convert_images, open_database, parse_datum
from caffe_compat.data.convert import Conversion, ConvertOptions, make_record
from caffe_compat.data.datum import decode_image
from caffe_compat.errors import DataError
from tests.data.conftest import noise_images
from tests.data.test_image_size import jpeg_head, png_head


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, image in enumerate(noise_images(4, (3, 6, 8))):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.ascontiguousarray(image.transpose(1, 2, 0)))
    return tmp_path


ENTRIES = [(f"{number}.png", 10 + number) for number in range(4)]


def test_records_in_order_with_their_labels(folder: Path) -> None:
    done: list[int] = []
    result = convert_images(f"{folder}/", ENTRIES, folder / "db", report=lambda count, _: done.append(count), threads=2)
    assert result == Conversion(records=4, skipped=0)
    assert done == [1, 2, 3, 4]
    records = list(open_database(folder / "db"))
    assert [record.key for record in records] == [b"%08d_%d.png" % (i, i) for i in range(4)]
    datums = [parse_datum(record.value) for record in records]
    assert [datum.label for datum in datums] == [10, 11, 12, 13]
    assert (np.stack([datum.array() for datum in datums]) == noise_images(4, (3, 6, 8))).all()


def test_another_order_and_another_source_of_bytes(folder: Path) -> None:
    asked: list[str] = []

    def read(path: str) -> bytes:
        asked.append(path)
        return (folder / path.removeprefix("tar:")).read_bytes()

    convert_images("tar:", ENTRIES, folder / "db", order=[2, 0], read=read, threads=1)
    assert asked == ["tar:2.png", "tar:0.png"]
    assert [record.key for record in open_database(folder / "db")] == [b"00000000_2.png", b"00000001_0.png"]


def test_what_cannot_be_read_is_left_out_and_reported(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"broken")
    problems: list[str] = []

    def report(_: int, problem: DataError | None) -> None:
        if problem:
            problems.append(str(problem))

    result = convert_images(f"{folder}/", ENTRIES, folder / "db", report=report)
    assert result == Conversion(records=3, skipped=1)
    assert len(problems) == 1
    assert "1.png: 6 bytes that cannot be decoded" in problems[0]
    with pytest.raises(DataError, match=r"none of 1 images can be read below .*; the first: "):
        convert_images(f"{folder}/", ENTRIES[1:2], folder / "other")
    assert not (folder / "other").exists()


@pytest.mark.parametrize("head", [jpeg_head(65500, 65500), png_head(100000, 100000, 2), jpeg_head(20000, 20000)])
def test_an_image_that_says_too_much_is_left_out(folder: Path, head: bytes) -> None:
    (folder / "1.png").write_bytes(head)
    result = convert_images(f"{folder}/", ENTRIES, folder / "db", ConvertOptions(resize_height=6, resize_width=8))
    assert result == Conversion(records=3, skipped=1)
    assert [parse_datum(record.value).label for record in open_database(folder / "db")] == [10, 12, 13]


def test_a_slash_behind_the_name(folder: Path) -> None:
    assert convert_images(f"{folder}/", ENTRIES, f"{folder}/db/") == Conversion(records=4, skipped=0)
    assert [file.name for file in folder.glob("db*")] == ["db"]
    assert [file.name for file in (folder / "db").iterdir()] == ["data.mdb"]


def test_without_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert convert_images(f"{folder}/", ENTRIES, folder / "db", threads=2) == Conversion(records=4, skipped=0)
    assert [parse_datum(record.value).label for record in open_database(folder / "db")] == [10, 11, 12, 13]


def test_settings_that_no_image_fits(folder: Path) -> None:
    with pytest.raises(DataError, match=r"db: cannot be resized to 5000000000x2 \(height x width\); expected at most"):
        convert_images(f"{folder}/", ENTRIES, folder / "db", ConvertOptions(resize_height=5 * 10**9, resize_width=2))
    with pytest.raises(DataError, match="threads is -1; expected at least 1"):
        convert_images(f"{folder}/", ENTRIES, folder / "db", threads=-1)
    assert not list(folder.glob("db*"))


def test_records_of_every_kind(folder: Path) -> None:
    path = str(folder / "0.png")
    raw, values = make_record(path, 7, ConvertOptions(gray=True, resize_height=3, resize_width=4))
    assert (parse_datum(raw).array().shape, values) == ((1, 3, 4), 12)
    as_it_is, values = make_record(path, 7, ConvertOptions(encoded=True))
    assert values == 0
    assert bytes(parse_datum(as_it_is).data) == Path(path).read_bytes()
    jpeg = parse_datum(make_record(path, 7, ConvertOptions(encode_type="jpg"))[0])
    assert (jpeg.encoded, jpeg.label) == (True, 7)
    assert bytes(jpeg.data[:2]) == b"\xff\xd8"
    assert decode_image(jpeg.data).shape == (6, 8, 3)
    with pytest.raises(DataError, match="cannot be encoded as 'text'; expected a type such as png or jpg"):
        make_record(path, 7, ConvertOptions(encode_type="text"))


def test_sizes_are_compared_on_request(folder: Path) -> None:
    cv2.imwrite(str(folder / "2.png"), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"2.png: has 12 values .*, the first image 144; set resize_height"):
        convert_images(f"{folder}/", ENTRIES, folder / "db", ConvertOptions(check_size=True))
    assert convert_images(f"{folder}/", ENTRIES, folder / "db2", ConvertOptions()).records == 4


def test_backends(folder: Path) -> None:
    with pytest.raises(DataError, match="backend is 'hdf5'; expected lmdb or leveldb"):
        convert_images(f"{folder}/", ENTRIES, folder / "db", ConvertOptions(backend="hdf5"))
    convert_images(f"{folder}/", ENTRIES, folder / "db")
    with pytest.raises(DataError, match="db: already exists"):
        convert_images(f"{folder}/", ENTRIES, folder / "db")


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_two_never_write_one_database(folder: Path, backend: str) -> None:
    """The second is refused at any moment and harms nothing; afterwards the database is simply there."""
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    options, refused = ConvertOptions(backend=backend), 0

    def second(done: int, problem: DataError | None) -> None:
        nonlocal refused
        with pytest.raises(DataError, match=r"db: is being written by another process; wait for it, or choose another"):
            convert_images(f"{folder}/", ENTRIES, folder / "db", options)
        refused += 1

    assert convert_images(f"{folder}/", ENTRIES, folder / "db", options, report=second) == Conversion(4, 0)
    assert refused == 4
    assert len(open_database(folder / "db")) == 4
    with pytest.raises(DataError, match="db: already exists"):
        convert_images(f"{folder}/", ENTRIES, folder / "db", options)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".png") == ["db"]


def test_a_conversion_that_failed_can_be_started_again(folder: Path) -> None:
    def stop(done: int, problem: DataError | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_images(f"{folder}/", ENTRIES, folder / "db", report=stop)
    assert convert_images(f"{folder}/", ENTRIES, folder / "db").records == 4
