"""Databases, images, lists of them, annotations."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caffe_compat import random
from caffe_compat.data import Loader, Transformer, encode_datum, write_lmdb
from caffe_compat.data.annotated_transformer import AnnotatedTransformer
from caffe_compat.data.annotations import encode_annotated, parse_annotated
from caffe_compat.data.datum import decode_image, encode_image, parse_datum
from caffe_compat.data.image_list import ImageList
from caffe_compat.data.index_file import SubsetReader, write_index_file
from caffe_compat.data.layers.hdf5_data import HDF5Source
from caffe_compat.data.leveldb import LevelDBReader, LevelDBWriter
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.mean import read_mean, write_mean
from caffe_compat.data.pair_list import PairList
from caffe_compat.data.voc_annotation import read_label_map, read_voc
from caffe_compat.data.window_file import WindowFile
from caffe_compat.proto import (
    caffe_pb2,
    parse_message,
    write_blob,
)
from tests.fuzz.readers.registry import reader, written


def lmdb_records(count: int = 7, size: int = 5) -> list[tuple[str, bytes]]:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return [(f"{i:08d}_{i}", encode_datum(image, i % 3)) for i, image in enumerate(images)]


def lmdbs(folder: Path) -> list[bytes]:
    """In one leaf, in pages of their own, in many leaves."""
    made = []
    for count, size in ((7, 5), (7, 80), (200, 5)):
        path = folder / f"db{count}_{size}"
        write_lmdb(path, lmdb_records(count, size))
        made.append((path / "data.mdb").read_bytes())
    return made


def annotated_records(_: Path) -> list[bytes]:
    boxes = [(1, (0.25, 0.25, 0.5, 0.75), False), (2, (0.5, 0.0, 1.0, 0.5), True)]
    return [encode_annotated(record, boxes) for _, record in lmdb_records(2)]


ANNOTATED = (
    """mirror: true expand_param { max_expand_ratio: 2 } emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.5 }"""
)


@reader("annotated_datum", annotated_records, "wire", ".bin", names_file=False)
def _annotated_datum(path: Path) -> None:
    record = parse_annotated(path.read_bytes())
    transformer = AnnotatedTransformer(parse_message(ANNOTATED, caffe_pb2.TransformationParameter()), "TRAIN")
    image = transformer.image_of(record)
    with random.scope(1):
        transformer.apply(image, transformer.plan(record, image))


VOC = b"""<annotation><size><width>20</width><height>10</height></size><object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>13</xmax><ymax>9</ymax></bndbox></object></annotation>"""


@reader("voc", lambda _: [VOC], "text", ".xml")
def _voc(path: Path) -> None:
    read_voc(path, (10, 20), {"cat": 1}, lambda _: None)


@reader("label_map", lambda _: [b'item { name: "cat" label: 1 display_name: "a cat" } item { }'], "text", ".prototxt")
def _label_map(path: Path) -> None:
    read_label_map(path, unique=True)


@reader("pair_list", lambda _: [b"a.jpg a.png\nb.jpg b.png\n"], "text", ".txt")
def _pair_list(path: Path) -> None:
    PairList(path)


@reader("lmdb", lmdbs, "bytes", ".mdb")
def _lmdb(path: Path) -> None:
    database = LMDBReader(path)
    try:
        count = sum(1 for _ in database)
        list(database.keys())
        database.record(count - 1)
        cursor = database.cursor()
        cursor.take(count + 1)
        cursor.seek(cursor.position())
    finally:
        database.close()


@reader("loader", lmdbs, "bytes", ".mdb")
def _loader(path: Path) -> None:
    loader = Loader(path, 3, Transformer(crop_size=4), threads=1, seed=1, skip_bad_records=2)
    try:
        for _ in loader:
            pass
    finally:
        loader.close()
        loader.source.database.close()


def leveldb_file(pattern: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        with LevelDBWriter(folder / "good") as writer:
            for key, value in lmdb_records():
                writer.put(key.encode(), value)
        LevelDBReader(folder / "good").close()  # its log becomes a table
        LevelDBReader(folder / "good").close()
        return [next(iter(sorted((folder / "good").glob(pattern)))).read_bytes()]

    return seeds


def read_leveldb(path: Path, pattern: str) -> None:
    damaged = path.with_name("input_db")
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(path.with_name("good"), damaged)
    shutil.copy(path, next(iter(sorted(damaged.glob(pattern)))))
    database = LevelDBReader(damaged)
    try:
        for record in database:
            database.get(record.key)
        database.record(len(database) - 1)
        database.cursor().take(9)
    finally:
        database.close()


for _pattern in ("*.ldb", "MANIFEST-*", "*.log", "CURRENT"):
    reader(f"leveldb_{_pattern.strip('*.-').lower()}", leveldb_file(_pattern), "bytes")(
        functools.partial(read_leveldb, pattern=_pattern)
    )


def datums(folder: Path) -> list[bytes]:
    floats = encode_datum(np.ones((1, 2, 3), np.float32), 4)
    return [floats, *(value for _, value in lmdb_records()[:2]), *(encode_image(data, 1) for data in images(folder))]


@reader("datum", datums, "wire", names_file=False)
def _datum(path: Path) -> None:
    datum = parse_datum(path.read_bytes())
    if datum.encoded:
        decode_image(datum.data)
    else:
        datum.array()


def images(_: Path) -> list[bytes]:
    import cv2

    noise = np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    return [cv2.imencode(suffix, noise)[1].tobytes() for suffix in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")]


@reader("image", images, "bytes")
def _image(path: Path) -> None:
    for color in (None, True, False):
        decode_image(path.read_bytes(), color, str(path))


@reader("image_list", lambda _: [b"a/b.jpg 0\nc d.png 12\nlast -1"], "text", ".txt")
def _image_list(path: Path) -> None:
    entries = ImageList(path)
    entries.label_problem()
    entries.identity()
    for number in range(len(entries)):
        entries[number]
        entries.line(number)


def index_files(folder: Path) -> list[bytes]:
    write_lmdb(folder / "db", lmdb_records())
    write_index_file(folder / "index", folder / "db", np.array([6, 0, 3]), np.array([1, 0, 2]))
    return [(folder / "index").read_bytes()]


@reader("index_file", index_files, "bytes")
def _index_file(path: Path) -> None:
    subset = SubsetReader(path)
    try:
        list(subset)
        subset.cursor().take(5)
    finally:
        subset.close()


WINDOWS = b"""# 0
im.png
3
20
30
2
1 0.9 1 2 10 12
0 0.1 3 3 1 9
# 1
im.png
3
20
30
1
2 0.8 0 0 29 19
"""


@reader("window_file", lambda _: [WINDOWS], "text", ".txt")
def _window_file(path: Path) -> None:
    WindowFile(path, 0.5, 0.5)


MEAN = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@reader("mean_binaryproto", lambda _: [written(lambda path: write_blob(path, MEAN))], "wire", ".binaryproto")
@reader("mean_npy", lambda _: [written(lambda path: write_mean(path, MEAN), ".npy")], "npy", ".npy")
def _mean(path: Path) -> None:
    read_mean(path)


def hdf5_files(folder: Path) -> list[bytes]:
    def write(path: Path, **options: Any) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=np.arange(24, dtype=np.float32).reshape(4, 6), **options)
            file.create_dataset("label", data=np.arange(4))

    write(folder / "good.h5")
    (folder / "list.txt").write_text("input.h5\n")
    return [written(write), written(lambda path: write(path, chunks=(2, 3), compression="gzip", shuffle=True))]


@reader("hdf5_data", hdf5_files, "hdf5", ".h5")
def _hdf5_data(path: Path) -> None:
    HDF5Source("list.txt", ["data", "label"], 3).load()


def hdf5_lists(folder: Path) -> list[bytes]:
    hdf5_files(folder)
    return [b"good.h5\n good.h5"]


@reader("hdf5_list", hdf5_lists, "text", ".txt")
def _hdf5_list(path: Path) -> None:
    HDF5Source(str(path), ["data", "label"], 3).load()
