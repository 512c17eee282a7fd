"""Every kind of images becomes Caffe databases; what is wrong with it is said in one line."""

import gzip
import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data import read_mean, write_lmdb
from caffe_compat.data.datum import encode_datum, parse_datum
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError
from reproduce.datasets import glyphs, load_images, prototxt_folder
from reproduce.datasets.databases import write_databases
from reproduce.datasets.images import ArrayImages
from reproduce.plan import base_half, random_features, reduced


def small_images(classes: int = 6, per_class: int = 3) -> ArrayImages:
    rng = np.random.default_rng(0)
    labels = np.arange(classes * per_class) % classes
    pixels = {part: rng.integers(0, 256, (len(labels), 3, 8, 8), np.uint8) for part in ("train", "valid")}
    return ArrayImages([f"class{i}" for i in range(classes)], pixels, {"train": labels, "valid": labels})


def test_glyphs_are_the_same_in_every_run_and_differ_among_themselves() -> None:
    labels = np.arange(124) % 62
    first, second = glyphs.draw(labels, 1), glyphs.draw(labels, 1)
    assert np.array_equal(first, second)
    assert first.shape == (124, 3, 32, 32)
    assert not np.array_equal(first[:62], first[62:])
    assert not np.array_equal(first, glyphs.draw(labels, 2))
    assert min(image.std() for image in first) > 5


def test_all_fonts_have_all_glyphs() -> None:
    for row in glyphs._glyph_masks():
        assert len({mask.tobytes() for mask in row}) == len(glyphs.CLASSES)


def test_halves_are_renumbered_and_keep_their_images(tmp_path: Path) -> None:
    images = small_images()
    tests = write_databases(images, [base_half("0", "A"), base_half("0", "B")], tmp_path, lambda text: None)
    assert tests == {"half0A": 9, "half0B": 9}
    drawn = np.sort(np.random.RandomState([0]).choice(np.arange(6), 3, replace=False))
    records = [parse_datum(record.value) for record in LMDBReader(tmp_path / "half0A_valid_lmdb")]
    expected = [i for i, label in enumerate(images.labels("valid")) if label in drawn]
    assert [datum.label for datum in records] == [drawn.tolist().index(images.labels("valid")[i]) for i in expected]
    for datum, i in zip(records, expected, strict=True):
        assert np.array_equal(datum.array(), images.pixels["valid"][i])
    lines = (tmp_path / "half0A_valid.txt").read_text().splitlines()
    assert lines[0] == f"class{drawn[0]}/valid_{expected[0]:05d} 0"


def test_training_records_are_shuffled_and_the_mean_is_theirs(tmp_path: Path) -> None:
    images = small_images(per_class=10)
    write_databases(images, [random_features(1)], tmp_path, lambda text: None)
    labels = [parse_datum(record.value).label for record in LMDBReader(tmp_path / "whole_train_lmdb")]
    assert sorted(labels) == sorted(images.labels("train"))
    assert labels != images.labels("train").tolist()
    mean = images.pixels["train"].astype(np.float64).mean(0)
    np.testing.assert_allclose(read_mean(tmp_path / "whole_mean.binaryproto"), mean, rtol=1e-5)


def test_reduced_sets_keep_the_first_images_of_each_class(tmp_path: Path) -> None:
    write_databases(small_images(), [reduced(2)], tmp_path, lambda text: None)
    lines = (tmp_path / "reduced-0002_train.txt").read_text().splitlines()
    assert lines == [f"class{i % 6}/train_{i:05d} {i % 6}" for i in range(12)]
    assert len(LMDBReader(tmp_path / "whole_valid_lmdb")) == 18


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    write_databases(small_images(), [base_half("0", "A")], tmp_path, lambda text: None)
    said: list[str] = []
    write_databases(small_images(), [base_half("0", "A")], tmp_path, said.append)
    assert said == []


def write_idx(file: Path, array: np.ndarray) -> None:
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    file.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_fashion(root: Path) -> Path:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 40), ("t10k", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", np.arange(count * 784).reshape(count, 28, 28) % 251)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


def test_fashion_mnist_from_a_torchvision_root(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    images = load_images(f"fashion-mnist:{tmp_path}")
    assert (len(images.classes), images.size, len(images.labels("train"))) == (10, 28, 40)
    datum = parse_datum(images.record("train", 1, 7))
    assert (datum.channels, datum.label) == (1, 7)
    assert np.array_equal(datum.array().ravel(), np.arange(784, 1568) % 251)


def test_fashion_mnist_cut_short_is_named(tmp_path: Path) -> None:
    folder = write_fashion(tmp_path)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-5]))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: not an idx file"):
        load_images(f"fashion-mnist:{tmp_path}")


def test_cifar100_from_a_torchvision_root(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    rgb = np.zeros((6, 3072), np.uint8)
    rgb[:, :1024] = 9  # red
    batch = {b"data": rgb, b"fine_labels": [0, 1, 2, 0, 1, 2]}
    names = {b"fine_label_names": [b"apple", b"bed", b"rose"]}
    for name, content in (("train", batch), ("test", batch), ("meta", names)):
        (folder / name).write_bytes(pickle.dumps(content))
    images = load_images(f"cifar100:{tmp_path}")
    assert images.natural == (0, 2)
    pixels = parse_datum(images.record("train", 0, 0)).array()
    assert [int(channel.max()) for channel in pixels] == [0, 0, 9]  # blue, green, red


def test_cifar100_runs_no_code_from_a_pickle(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="meta: cannot be read"):
        load_images(f"cifar100:{tmp_path}")


def write_folder(root: Path, parts: tuple[str, ...] = ("",), classes: int = 4, count: int = 5) -> None:
    for part in parts:
        for c in range(classes):
            folder = root / part / f"c{c}"
            folder.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / f"{i}.png"), np.full((40, 50, 3), 10 * c + i, np.uint8))


def test_class_folders_with_and_without_validation(tmp_path: Path) -> None:
    write_folder(tmp_path / "one")
    images = load_images(f"folder:{tmp_path / 'one'}")
    assert images.names("valid") == ["c0/0.png", "c1/0.png", "c2/0.png", "c3/0.png"]
    assert len(images.labels("train")) == 16
    write_folder(tmp_path / "two", ("train", "val"))
    images = load_images(f"folder:{tmp_path / 'two'}")
    assert len(images.labels("valid")) == 20
    datum = parse_datum(images.record("valid", 7, 3))
    assert (datum.height, datum.width, datum.label, int(datum.array()[0, 0, 0])) == (32, 32, 3, 12)


def test_natural_classes_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "natural.txt").write_text("c2\nc0\n")
    assert load_images(f"folder:{tmp_path}").natural == (0, 2)
    (tmp_path / "natural.txt").write_text("c9\n")
    with pytest.raises(DataError, match=r"natural.txt: c9 is not a class"):
        load_images(f"folder:{tmp_path}")


def write_pair(root: Path, labels: list[int]) -> str:
    for part in ("train", "val"):
        records = [(f"{i:08d}", encode_datum(np.full((3, 32, 32), i, np.uint8), y)) for i, y in enumerate(labels)]
        write_lmdb(root / part, records)
    return f"lmdb:{root / 'train'},{root / 'val'}"


def test_a_pair_of_lmdbs(tmp_path: Path) -> None:
    images = load_images(write_pair(tmp_path, [0, 1, 2, 3, 0, 1]))
    assert (len(images.classes), images.size) == (4, 32)
    datum = parse_datum(images.record("valid", 4, 2))
    assert (datum.label, int(datum.array().max())) == (2, 4)


def test_prototxts_by_the_size_of_an_lmdb() -> None:
    sizes = {28: "miniature/fashion-mnist", 32: "miniature/photos", 256: "paper"}
    assert {size: prototxt_folder("lmdb:a,b", size) for size in sizes} == sizes
    with pytest.raises(DataError, match="64 pixels"):
        prototxt_folder("lmdb:a,b", 64)


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "data.mdb").write_text("no database\n" * 400)
    pair = write_pair(tmp_path / "gap", [0, 2])
    cases = {
        "letters": "--data letters: unknown; expected one of glyphs",
        "folder": "--data folder: says no path",
        f"folder:{tmp_path / 'none'}": "none: no such folder",
        f"folder:{tmp_path / 'empty'}": "empty: no class folders here",
        f"cifar100:{tmp_path / 'empty'}": "no CIFAR-100 here.*--download",
        f"fashion-mnist:{tmp_path / 'empty'}": "no Fashion-MNIST here.*apt-get install",
        f"lmdb:{tmp_path / 'none'}": "expected two, lmdb:TRAIN,VAL",
        f"lmdb:{tmp_path / 'none'},x": "none.*: no LMDB here",
        f"lmdb:{tmp_path / 'empty'},x": "empty.*: no LMDB here",
        f"lmdb:{tmp_path / 'text'},x": "text/data.mdb: is not an LMDB",
        pair: "no image has label 1",
    }
    for choice, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            load_images(choice)
        assert "\n" not in str(caught.value)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "c0" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"c0/1.png: cannot be read as an image"):
        write_databases(load_images(f"folder:{tmp_path}"), [random_features(1)], tmp_path / "out", lambda text: None)
    assert not (tmp_path / "out" / "whole_train_lmdb").exists()
