"""Image files to a database of Datums, record for record as Caffe's convert_imageset makes it."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from caffe_compat.data.datum import encode_datum, encode_image
from caffe_compat.data.image_list import check_new_size, decode_resized, read_file
from caffe_compat.data.leveldb import LevelDBWriter
from caffe_compat.data.lmdb import LMDBWriter
from caffe_compat.data.thread_map import usable_cores
from caffe_compat.errors import DataError, seen_from

_SETTINGS_FILE = "convert.json"


@dataclass(frozen=True)
class ConvertOptions:
    """The flags of convert_imageset."""

    gray: bool = False
    resize_height: int = 0
    resize_width: int = 0
    encoded: bool = False
    encode_type: str = ""  # "png", "jpg", ...; empty: by the file's name
    check_size: bool = False
    backend: str = "lmdb"


@dataclass(frozen=True)
class Conversion:
    """What was done: records written, images left out because they could not be read."""

    records: int
    skipped: int
    resumed_at: int = 0


class Entries(Protocol):
    """Names and labels by number; an ImageList, or a list of pairs.  What a label is, the maker of records knows."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> tuple[str, Any]: ...


def convert_images(
    root: str,
    entries: Entries,
    output: str | os.PathLike[str],
    options: ConvertOptions = ConvertOptions(),
    *,
    order: Sequence[int] | None = None,
    report: Callable[[int, DataError | None], None] | None = None,
    threads: int | None = None,
    read: Callable[[str], bytes] = read_file,
    make: Callable[..., tuple[bytes, int]] | None = None,
) -> Conversion:
    """Write the images ``root + name`` and their labels to a new database ``output``.

    Decodes in ``threads`` threads (default: all cores), writes in order.  ``order``: numbers of
    entries; ``read``: gives the bytes of a ``root + name``; ``make``: makes a record in place of
    ``make_record``.  An image that cannot be read is left out, as in Caffe; ``report(done, problem)``
    is called after each image.  An interrupted LMDB conversion goes on where it stopped when it is
    started again with the same arguments.  Raises DataError when ``output`` exists, no image can be
    read, or, with ``check_size``, sizes differ.
    """
    if options.backend not in ("lmdb", "leveldb"):
        raise DataError(f"backend is {options.backend!r}; expected lmdb or leveldb")
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}; expected at least 1")
    check_new_size(options.resize_height, options.resize_width, 1 if options.gray else 3, os.fspath(output))
    if options.encode_type:
        _check_encoding(options.encode_type)
    order = range(len(entries)) if order is None else order
    writer, start, records = _open_writer(output, options, _fingerprint(root, entries, order, options))
    size: int | None = None
    problem: DataError | None = None  # of the first image that is left out
    skipped = start - records
    with writer:
        made = _records(
            root,
            entries,
            order,
            options,
            start=start,
            threads=threads or usable_cores(),
            read=read,
            make=make or make_record,
        )
        for number, (name, record, values) in enumerate(made, start):
            if isinstance(record, DataError):
                skipped += 1
                problem = problem or record
            else:
                if options.check_size:
                    size = _check_size(size, record, values, name)
                writer.put(f"{number:08d}_{name}".encode(errors="surrogateescape"), record.value)
                records += 1
            if report is not None:
                report(number + 1, record if isinstance(record, DataError) else None)
        if not records:
            below = root or os.getcwd()
            raise DataError(f"{output}: none of {len(order)} images can be read below {below}; {_cure(root, problem)}")
        (writer.partial / _SETTINGS_FILE).unlink(missing_ok=True)
    return Conversion(records, skipped, start)


def _cure(root: str, problem: DataError | None) -> str:
    if os.path.isdir(root) and not root.endswith("/"):
        return f'the root folder is put before each name as it is, so that it has to end in a slash: "{root}/"'
    if root.endswith("/") and not os.path.isdir(root):
        return f"there is no folder {root}{seen_from(root)}"
    return f"the first: {problem}"


@dataclass(frozen=True)
class _Record:
    value: bytes


def make_record(
    path: str, label: int, options: ConvertOptions, read: Callable[[str], bytes] = read_file
) -> tuple[bytes, int]:
    """(Datum bytes, channels * height * width) of an image; the latter is 0 when it stays encoded.

    Raises DataError when it cannot be read.
    """
    height, width = max(0, options.resize_height), max(0, options.resize_width)
    data = read(path)
    image = decode_resized(data, path, height, width, not options.gray)
    encoding = options.encode_type
    if options.encoded and not encoding:
        encoding = path.rpartition(".")[2].lower()
    if not encoding:
        return encode_datum(np.ascontiguousarray(image.transpose(2, 0, 1)), label), image.size
    if not height and not width and is_extension(path, encoding):
        return encode_image(data, label), 0
    return encode_image(encode_file(image, encoding, path), label), 0


def _records(
    root: str,
    entries: Entries,
    order: Sequence[int],
    options: ConvertOptions,
    *,
    start: int,
    threads: int,
    read: Callable[[str], bytes],
    make: Callable[..., tuple[bytes, int]],
) -> Iterator[tuple[str, _Record | DataError, int]]:
    def make_one(name: str, label: Any) -> tuple[str, _Record | DataError, int]:
        try:
            value, values = make(root + name, label, options, read)
            return name, _Record(value), values
        except DataError as error:
            return name, error, 0

    def start_making(name: str, label: Any) -> Future[tuple[str, _Record | DataError, int]]:
        try:
            return pool.submit(make_one, name, label)
        except RuntimeError:  # no more threads for this process
            made: Future[tuple[str, _Record | DataError, int]] = Future()
            made.set_result(make_one(name, label))
            return made

    ahead = 4 * threads  # how many images wait in memory
    waiting: deque[Future[tuple[str, _Record | DataError, int]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        try:
            for number in range(start, len(order)):
                waiting.append(start_making(*entries[order[number]]))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _open_writer(
    output: str | os.PathLike[str], options: ConvertOptions, fingerprint: str
) -> tuple[LMDBWriter | LevelDBWriter, int, int]:
    """(writer, number of the first image to convert, records already written)."""
    if options.backend == "leveldb":
        return LevelDBWriter(output), 0, 0
    settings = Path(output).with_name(f"{Path(output).name}.partial") / _SETTINGS_FILE
    resume = settings.is_file() and settings.read_text() == fingerprint
    writer = LMDBWriter(output, resume=resume)
    settings.write_text(fingerprint)
    last = writer.last_key()
    return writer, int(last[:8]) + 1 if last else 0, writer.count()


def _fingerprint(root: str, entries: Entries, order: Sequence[int], options: ConvertOptions) -> str:
    digest = hashlib.sha256()
    for number in order:
        name, label = entries[number]
        digest.update(f"{name} {label}\n".encode(errors="surrogateescape"))
    return json.dumps({"root": root, "images": digest.hexdigest(), **asdict(options)}, indent=1)


def _check_size(size: int | None, record: _Record, values: int, name: str) -> int:
    if size is None:
        return values
    if not values:
        raise DataError(f"{name}: check_size cannot be used with encoded images; leave one of the two out")
    if values != size:
        raise DataError(
            f"{name}: has {values} values (channels x height x width), the first image {size}; "
            "set resize_height and resize_width, or leave check_size out"
        )
    return size


def is_extension(path: str, encoding: str) -> bool:
    """Whether a file's name says that it is of this encoding."""
    extension, wanted = path.rpartition(".")[2].lower(), encoding.lower()
    return extension == wanted or (wanted == "jpg" and extension == "jpeg")


def _check_encoding(encoding: str) -> None:
    import cv2

    if not cv2.haveImageWriter(f"image.{encoding}"):
        raise DataError(f"encode_type is {encoding!r}, which OpenCV cannot write; expected a type such as png or jpg")


def encode_file(image: np.ndarray, encoding: str, path: str) -> bytes:
    """The bytes of an image file; DataError, which names ``path``, for an encoding that OpenCV does not know."""
    import cv2

    try:
        done, data = cv2.imencode(f".{encoding}", image)
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"{path}: cannot be encoded as {encoding!r}; expected a type such as png or jpg")
    return data.tobytes()
