"""What is for cases only: inputs that are not damaged at random."""

import ctypes
import shutil
import struct
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import torch

from caffe_compat import random
from caffe_compat.data import write_lmdb
from caffe_compat.data.convert import ConvertOptions, convert_images
from caffe_compat.data.datum import encode_image
from caffe_compat.data.image_list import ImageList
from caffe_compat.errors import DataError
from caffe_compat.net import Net
from caffe_compat.net.blob_engine import BlobEngine
from tests.fuzz.readers.databases import images, lmdb_records
from tests.fuzz.readers.nets import net_texts
from tests.fuzz.readers.registry import reader


@reader("forward", net_texts, "text", ".prototxt", fuzzed=False)
def _forward(path: Path) -> None:
    with random.scope(1):
        net = Net(path)
        net.extract(net.blob_names, **{name: torch.zeros(net.blob_shapes[name]) for name in net.inputs})


@reader("engine", net_texts, "text", ".prototxt", fuzzed=False)
def _engine(path: Path) -> None:
    """Layer by layer, and back."""
    with random.scope(1):
        net = Net(path)
        engine = BlobEngine(net)
        engine.forward()
        engine.backward()


def png(height: int, width: int, data: bytes = b"") -> bytes:
    """A grey PNG whose head says this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def hostile_folder(folder: Path) -> list[bytes]:
    """What the nets and lists of hostile cases name, below this folder."""
    bomb = encode_image(png(7000, 7000, zlib.compress(bytes(21001) * 7000, 9)), 1)
    write_lmdb(folder / "bomb", [(f"{i:08d}", bomb) for i in range(8)])
    write_lmdb(folder / "good", lmdb_records())
    data = bytearray((folder / "good" / "data.mdb").read_bytes())
    data[2 * 4096 + 10] ^= 0xFF
    (folder / "flipped.mdb").write_bytes(data)
    (folder / "h2.png").write_bytes(png(100_000, 100_000))
    (folder / "i.png").write_bytes(images(folder)[0])
    lists = {"big": b"h2.png 1\n", "small": b"i.png 1\n", "latin1": b"caf\xe9.h5\n", "sparse": b"s.h5\n"}
    for name, text in lists.items():
        (folder / f"{name}.txt").write_bytes(text)
    with h5py.File(folder / "s.h5", "w") as file:
        for name in ("data", "label"):
            file.create_dataset(name, (1 << 20, 1 << 20, 3), np.float32, chunks=(1, 1 << 10, 3))
    return []


@reader("hostile_net", hostile_folder, "text", ".prototxt", fuzzed=False)
def _hostile_net(path: Path) -> None:
    _forward(path)


@reader("hostile_list", hostile_folder, "text", ".txt", names_file=False, fuzzed=False)
def _hostile_list(path: Path) -> None:
    shutil.rmtree("out_lmdb", ignore_errors=True)
    convert_images("", ImageList(path), "out_lmdb", ConvertOptions(), threads=1)


@reader("failing", lambda _: [b"read", b"raise"], "bytes", fuzzed=False)
def _failing(path: Path) -> None:
    """What the input says, for the tests of the fuzzer itself."""
    word = path.read_text(errors="replace")
    if word == "refuse":
        raise DataError(f"{path}: is damaged")
    if word == "unnamed":
        raise DataError("is damaged")
    if word == "raise":
        raise KeyError("x")
    if word == "crash":
        ctypes.string_at(0)
    if word == "hang":
        time.sleep(60)
    if word == "memory":
        bytearray(2 << 30)
