"""Show what is in a database: records, shapes, labels, boxes, and a contact sheet of its images.

caffe-compat inspect_db train_lmdb --sheet train.png
caffe-compat inspect_db train_lmdb --records 1000 --json
"""

import argparse
import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from caffe_compat.atomic_file import check_target, write_bytes
from caffe_compat.errors import DataError, printable
from caffe_compat.tools._values import whole

if TYPE_CHECKING:
    from caffe_compat.data.database import Database
    from caffe_compat.data.datum import Datum
    from caffe_compat.data.lmdb_pages import Record

_LABELS_SHOWN = 20
_TILE_PX = 96
_SIGNATURES = {b"\xff\xd8": "JPEG", b"\x89P": "PNG", b"BM": "BMP", b"GI": "GIF", b"RI": "WebP"}


class _Seen(NamedTuple):
    """Of a record."""

    datum: "Datum"
    label: int | None  # of the whole image
    box_labels: list[int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The database, the sheet and limits."""
    parser.add_argument("db", help="LMDB, LevelDB or subset's index file")
    parser.add_argument(
        "--sheet", metavar="FILE", help="write a contact sheet (PNG) of images spread over the database"
    )
    parser.add_argument("--images", type=whole(1), default=64, help="how many images on the sheet (default 64)")
    parser.add_argument("--records", type=whole(0), default=0, help="look only at the first N records (0: at all)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the text")


def run(args: argparse.Namespace) -> int:
    """Print; returns the exit status, 1 when a record is damaged."""
    from caffe_compat.data.database import find_backend, open_database

    if args.sheet:
        check_target(args.sheet)
    database = open_database(args.db)
    shapes: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    boxes: Counter[int] = Counter()
    problems: list[str] = []
    first = last = None
    for record in islice(database, args.records or None):
        first = record.key if first is None else first
        last = record.key
        try:
            seen = _read(record)
            shapes[_describe(seen.datum)] += 1
            if seen.label is not None:
                labels[seen.label] += 1
            boxes.update(seen.box_labels)
        except DataError as error:
            problems.append(f"record {record.key.decode(errors='replace')!r}: {error}")
    backend = find_backend(args.db)
    if args.json:
        ends = {name: (key or b"").decode(errors="replace") for name, key in (("first", first), ("last", last))}
        facts = {"backend": backend, "records": len(database), "keys": ends, "shapes": shapes}
        facts |= {"labels": dict(sorted(labels.items())), "boxes": dict(sorted(boxes.items())), "damaged": problems}
        print(json.dumps(facts, indent=2))
    else:
        keys = f"keys {_text(first)} to {_text(last)}"
        print(f"{printable(args.db)}: {backend}, {len(database)} records, {keys}")
        for shape, count in shapes.most_common():
            print(f"  {count:9d} x {shape}")
        _print_labels("labels", labels, "records")
        _print_labels("labels of boxes", boxes, "boxes")
        for problem in problems:
            print(f"  damaged: {printable(problem)}")
    if args.sheet:
        write_bytes(args.sheet, _contact_sheet(database, args.images))
        if not args.json:
            print(f"  contact sheet: {printable(args.sheet)}")
    database.close()
    return 1 if problems else 0


def _text(key: bytes | None) -> str:
    return repr((key or b"").decode(errors="replace"))


def _read(record: "Record") -> _Seen:
    """What is of interest in a Datum, or in an AnnotatedDatum, whose first field is an embedded Datum."""
    from caffe_compat.data.annotations import parse_annotated
    from caffe_compat.data.datum import parse_datum

    if record.value[:1] != b"\x0a":  # field 1, with a length; in a Datum it is a number
        datum = parse_datum(record.value)
        return _Seen(datum, datum.label if record.label is None else record.label, [])
    found = parse_annotated(record.value)
    return _Seen(found.datum, found.datum.label if found.has_label else None, found.annotations.labels.tolist())


def _describe(datum: "Datum") -> str:
    if datum.encoded:
        return f"{_SIGNATURES.get(bytes(datum.data[:2]), 'unknown')} file"
    array = datum.array()
    return f"{'x'.join(map(str, array.shape))} {array.dtype} (channels x height x width)"


def _print_labels(name: str, labels: Counter[int], counted: str) -> None:
    if not labels:
        return
    counts = labels.values()
    print(
        f"  {name}: {len(labels)} different, {min(labels)} to {max(labels)}, "
        f"{min(counts)} to {max(counts)} {counted} each"
    )
    widest = max(counts)
    for label in sorted(labels)[:_LABELS_SHOWN]:
        print(f"  {label:9d}: {labels[label]:7d} {'#' * max(1, 40 * labels[label] // widest)}")
    if len(labels) > _LABELS_SHOWN:
        print(f"  ... and {len(labels) - _LABELS_SHOWN} more labels")


def _contact_sheet(database: "Database", count: int) -> bytes:
    """PNG of ``count`` images evenly spread over the database, each with its label."""
    import cv2

    numbers = np.unique(np.linspace(0, len(database) - 1, max(1, count)).astype(int))
    tiles = []
    for number in numbers:
        record = database.record(int(number))
        try:
            tiles.append(_tile(record))
        except DataError as error:
            raise DataError(f"{database.path}: record {record.key.decode(errors='replace')!r}: {error}") from None
    columns = int(np.ceil(np.sqrt(len(tiles))))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return cv2.imencode(".png", np.vstack(rows))[1].tobytes()


def _tile(record: "Record") -> np.ndarray:
    import cv2

    from caffe_compat.data.datum import decode_image

    seen = _read(record)
    datum = seen.datum
    image = decode_image(datum.data, True) if datum.encoded else _viewable(datum.array())
    scale = _TILE_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile = np.zeros((_TILE_PX, _TILE_PX, 3), np.uint8)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    tile[: small.shape[0], : small.shape[1]] = small
    label = str(seen.label) if seen.label is not None else ",".join(map(str, sorted(set(seen.box_labels))))
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, label, (3, _TILE_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width, cv2.LINE_AA)
    return tile


def _viewable(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of raw values: three channels as BGR, else the first as gray; floats stretched."""
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = ((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    picked = values if len(values) == 3 else np.repeat(values[:1], 3, axis=0)
    return np.ascontiguousarray(picked.transpose(1, 2, 0))
