import json
import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.data import LMDBReader, open_database, parse_datum
from caffe_compat.data.convert import ConvertOptions, convert_images
from caffe_compat.data.image_list import ImageList
from caffe_compat.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden" / "tool"
CASES = sorted(path.parent for path in GOLDEN.glob("convert_*/case.json"))
PLAIN = GOLDEN / "convert_plain"


def records(path: Path) -> dict[bytes, bytes]:
    return {record.key: bytes(record.value) for record in open_database(path)}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_records_equal_caffe_s(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, keys and values."""
    monkeypatch.chdir(shutil.copytree(case, tmp_path / "case"))
    meta = json.loads(Path("case.json").read_text())
    assert main(["convert_imageset", *meta["args"]]) == 0
    expected = {key.removeprefix("record:").encode(): value.tobytes() for key, value in np.load("expected.npz").items()}
    assert expected
    assert records(Path("out")) == expected


def test_cases_are_here() -> None:
    assert len(CASES) == 7


def test_shuffle_keeps_images_and_labels_together(tmp_path: Path) -> None:
    listed = PLAIN / "list.txt"
    arguments = ["convert_imageset", "--shuffle", "--seed=3", f"{PLAIN}/images/", str(listed)]
    assert main([*arguments, str(tmp_path / "a")]) == 0
    assert main([*arguments, str(tmp_path / "b")]) == 0
    assert main(["convert_imageset", f"{PLAIN}/images/", str(listed), str(tmp_path / "plain")]) == 0
    shuffled, plain = records(tmp_path / "a"), records(tmp_path / "plain")
    assert shuffled == records(tmp_path / "b")
    assert list(shuffled) != list(plain)
    assert {key[9:]: value for key, value in shuffled.items()} == {key[9:]: value for key, value in plain.items()}


def test_unreadable_images_are_left_out_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = shutil.copytree(PLAIN / "images", tmp_path / "images")
    (tmp_path / "list.txt").write_text("absent.png 1\nc0/i000.png 5\n")
    assert main(["convert_imageset", f"{root}/", str(tmp_path / "list.txt"), str(tmp_path / "out")]) == 0
    assert list(records(tmp_path / "out")) == [b"00000001_c0/i000.png"]
    printed = capfd.readouterr().err
    assert "absent.png: cannot be read" in printed
    assert "1 files could not be read" in printed


def test_no_image_at_all_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("absent.png 1\n")
    assert main(["convert_imageset", f"{tmp_path}/", str(tmp_path / "list.txt"), str(tmp_path / "out")]) == 1
    assert "none of 1 images can be read" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_check_size(tmp_path: Path) -> None:
    images, listed = GOLDEN / "convert_jpeg" / "images", ImageList(GOLDEN / "convert_jpeg" / "list.txt")
    with pytest.raises(DataError, match=r"check_size cannot be used with encoded"):
        convert_images(f"{images}/", listed, tmp_path / "a", ConvertOptions(check_size=True, encoded=True))
    for number, height in enumerate((5, 6)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((height, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"1.png: has 72 values .*, the first image 60"):
        convert_images(f"{tmp_path}/", [("0.png", 0), ("1.png", 1)], tmp_path / "b", ConvertOptions(check_size=True))


def test_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe_compat.data.lmdb._RECORDS_PER_COMMIT", 2)
    entries, root = ImageList(PLAIN / "list.txt"), f"{PLAIN}/images/"
    convert_images(root, entries, tmp_path / "whole")

    def stop_at_six(done: int, problem: DataError | None) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_images(root, entries, tmp_path / "out", report=stop_at_six)
    assert not (tmp_path / "out").exists()
    made = convert_images(root, entries, tmp_path / "out")
    assert made.resumed_at == 6
    assert made.records == len(entries)
    assert records(tmp_path / "out") == records(tmp_path / "whole")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["data.mdb"]


def test_other_settings_start_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe_compat.data.lmdb._RECORDS_PER_COMMIT", 1)
    entries, root = ImageList(PLAIN / "list.txt"), f"{PLAIN}/images/"

    def stop(done: int, problem: DataError | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_images(root, entries, tmp_path / "out", report=stop)
    assert convert_images(root, entries, tmp_path / "out", ConvertOptions(gray=True)).resumed_at == 0
    first = next(iter(LMDBReader(tmp_path / "out")))
    assert parse_datum(first.value).channels == 1


def test_leveldb(tmp_path: Path) -> None:
    pytest.importorskip("plyvel")
    arguments = [f"{PLAIN}/images/", str(PLAIN / "list.txt")]
    assert main(["convert_imageset", "--backend=leveldb", *arguments, str(tmp_path / "level")]) == 0
    assert main(["convert_imageset", *arguments, str(tmp_path / "lmdb")]) == 0
    assert records(tmp_path / "level") == records(tmp_path / "lmdb")


def test_bad_arguments(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert_imageset", f"{PLAIN}/images/", str(PLAIN / "list.txt"), str(tmp_path / "out")]
    assert main([*arguments, "--encode_type=nonsense"]) == 1
    assert "encode_type is 'nonsense', which OpenCV cannot write" in capfd.readouterr().err
    assert main(["convert_imageset", "images/", str(tmp_path / "absent.txt"), "out"]) == 1
    assert "absent.txt: cannot be read" in capfd.readouterr().err


def test_lmdb_opens_with_a_lock_for_others(tmp_path: Path) -> None:
    """Caffe opens with a lock file; ours must not stand in its way."""
    convert_images(f"{PLAIN}/images/", ImageList(PLAIN / "list.txt"), tmp_path / "out")
    with lmdb.open(str(tmp_path / "out"), readonly=True) as environment:
        assert environment.stat()["entries"] == 9


def test_what_caffe_takes_in_silence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.zeros((5, 6, 3), np.uint8))
    Path("list.txt").write_text("a.png cat\n")
    assert main(["convert_imageset", "--resize_height=3", "./", "list.txt", "db"]) == 0
    told = capsys.readouterr().err
    assert "--resize_height is 3 and --resize_width 0: nothing is resized, as in Caffe; give both, or neither" in told
    assert 'list.txt:1: label "cat" is no whole number; read as 0, as in Caffe' in told
