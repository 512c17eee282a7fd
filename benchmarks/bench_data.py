"""Images per second from a database to training batches (crop 227, mirror, mean): ours beside others.

    python benchmarks/bench_data.py                        # 2000 images of 256x256x3, all cores
    python benchmarks/bench_data.py --images 20000 --device cuda --json out.json

Raw records: ours, and (a) py-lmdb + NumPy in a PyTorch DataLoader.  JPEG records: ours, (a), (b) torchvision's
ImageFolder on the same files, (c) NVIDIA DALI's Caffe reader where it is installed.  All take turns, so that a slower
minute of the machine hits each; a turn starts when the workers of the turn before have come to rest, and what was made
ahead meanwhile is thrown away.  The table shows medians.  The bound is what a copy of the same bytes takes: the crop
read as uint8 and written as float32, at the fastest copy that was measured in between.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
from timing import open_device
from torch.utils.data import DataLoader, Dataset

from caffe_compat.data import Loader, Transformer, encode_datum, encode_image, write_lmdb, write_mean
from caffe_compat.data.thread_map import usable_cores
from caffe_compat.proto import caffe_pb2

SIZE, CROP = 256, 227
BYTES_PER_IMAGE = 3 * CROP * CROP * (1 + 4)  # uint8 in, float32 out
MADE_AHEAD = 8  # batches; more than any contestant keeps
REST_S = 1.0  # in which a contestant fills what it keeps ahead

Batches = Callable[[], Iterator[Any]]


class PlainDataset(Dataset[tuple[np.ndarray, int]]):
    """(a): what one writes by hand with py-lmdb, protobuf, NumPy and OpenCV."""

    def __init__(self, path: Path, mean: np.ndarray) -> None:
        self.path, self.mean = path, mean
        self.environment: lmdb.Environment | None = None
        with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
            self.keys = [bytes(key) for key, _ in transaction.cursor()]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if self.environment is None:
            self.environment = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False)
        with self.environment.begin() as transaction:
            record = transaction.get(self.keys[index])
        assert record is not None
        datum = caffe_pb2.Datum.FromString(record)
        if datum.encoded:
            decoded = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR)
            assert decoded is not None
            image: np.ndarray = decoded.transpose(2, 0, 1)
        else:
            image = np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width)
        top, left = np.random.randint(0, SIZE - CROP + 1, 2)
        window = np.s_[:, top : top + CROP, left : left + CROP]
        out = image[window].astype(np.float32) - self.mean[window]
        if np.random.randint(2):
            out = out[:, :, ::-1]
        return np.ascontiguousarray(out), datum.label


def make_data(folder: Path, count: int) -> np.ndarray:
    """raw/ and jpeg/ (LMDBs), files/ (class folders), mean.binaryproto; returns the mean (C, H, W)."""
    rng = np.random.default_rng(0)
    pictures = [cv2.GaussianBlur(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), (0, 0), 2) for _ in range(64)]
    files = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    planes = [np.ascontiguousarray(picture.transpose(2, 0, 1)) for picture in pictures]
    write_lmdb(folder / "raw", ((f"{i:08d}", encode_datum(planes[i % 64], i % 10)) for i in range(count)))
    write_lmdb(folder / "jpeg", ((f"{i:08d}", encode_image(files[i % 64], i % 10)) for i in range(count)))
    for kind in ("raw", "jpeg"):  # py-lmdb refuses to open a file twice in one process
        shutil.copytree(folder / kind, folder / f"{kind}_again")
    for i in range(count):
        path = folder / "files" / f"class{i % 10}" / f"{i:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[i % 64])
    mean = np.asarray(np.mean(planes, axis=0, dtype=np.float32))
    write_mean(folder / "mean.binaryproto", mean)
    return mean


def contestants(folder: Path, mean: np.ndarray, args: argparse.Namespace) -> dict[str, Batches]:
    """Name -> a maker of endless batches; ``kind/name``."""

    def ours(kind: str) -> Batches:
        transformer = Transformer(crop_size=CROP, mirror=True, mean_file=folder / "mean.binaryproto")
        loader = Loader(folder / kind, args.batch, transformer, device=args.device, threads=args.threads)
        return lambda: endless(loader)

    def by_workers(dataset: Dataset[Any]) -> Batches:
        loader = DataLoader(
            dataset, args.batch, num_workers=args.threads, persistent_workers=True, pin_memory=args.device != "cpu"
        )
        return lambda: (tuple(t.to(args.device, non_blocking=True) for t in batch) for batch in endless(loader))

    made = {f"{kind}/ours": ours(kind) for kind in ("raw", "jpeg")}
    made |= {
        f"{kind}/py-lmdb DataLoader": by_workers(PlainDataset(folder / f"{kind}_again", mean))
        for kind in ("raw", "jpeg")
    }
    try:
        made["jpeg/torchvision ImageFolder"] = by_workers(image_folder(folder / "files"))
    except ImportError:
        print("torchvision is not installed: left out")
    try:
        made["jpeg/DALI"] = dali(folder / "jpeg", mean, args)
    except ImportError:
        print("DALI is not installed: left out")
    return made


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches of one epoch after another."""
    while True:
        yield from batches


def image_folder(folder: Path) -> Dataset[Any]:
    """(b): torchvision with PIL."""
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomCrop(CROP),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [1, 1, 1]),
    ]
    images: Dataset[Any] = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    return images


def dali(path: Path, mean: np.ndarray, args: argparse.Namespace) -> Batches:
    """(c): DALI's Caffe reader; decodes on the GPU where there is one."""
    from nvidia.dali import fn, pipeline_def, types

    on_gpu = args.device != "cpu"

    device_id = 0 if on_gpu else None

    @pipeline_def(batch_size=args.batch, num_threads=args.threads, device_id=device_id)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        files, labels = fn.readers.caffe(path=str(path))
        images = fn.decoders.image(files, device="mixed" if on_gpu else "cpu", output_type=types.BGR)
        images = fn.crop_mirror_normalize(
            images,
            crop=(CROP, CROP),
            crop_pos_x=fn.random.uniform(range=(0, 1)),
            crop_pos_y=fn.random.uniform(range=(0, 1)),
            mirror=fn.random.coin_flip(),
            mean=mean.mean((1, 2)).tolist(),
            dtype=types.FLOAT,
        )
        return images, labels

    built = pipeline()
    built.build()
    return lambda: iter(built.run, None)


def images_per_second(batches: Iterator[Any], args: argparse.Namespace) -> float:
    """Over at least ``args.seconds``, those made ahead left out."""
    time.sleep(REST_S)
    for _ in range(MADE_AHEAD):
        next(batches)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds:
        next(batches)
        done += args.batch
    if args.device != "cpu":
        torch.cuda.synchronize()
    return done / (time.perf_counter() - start)


class CopySpeed:
    """Copies memory larger than the caches in all threads, with PyTorch and with memcpy."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.source = torch.ones(256 << 20, dtype=torch.uint8)
        self.target = torch.zeros_like(self.source)
        self.parts = [np.array_split(t.numpy(), threads) for t in (self.target, self.source)]
        self.best = 0.0  # bytes read plus bytes written, per second

    def measure(self) -> None:
        """Try both; keep the best so far."""
        for copy in (lambda: self.target.copy_(self.source), self._memcpy):
            for _ in range(3):
                start = time.perf_counter()
                copy()
                self.best = max(self.best, 2 * self.source.numel() / (time.perf_counter() - start))

    def _memcpy(self) -> None:
        threads = [threading.Thread(target=np.copyto, args=pair) for pair in zip(*self.parts, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def resident_mb() -> float:
    """Memory of this process, MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="records in each database")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a contestant's turn (default 2)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for all; turns that do not fit go")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="threads, or worker processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--json", type=Path, help="write the numbers")
    args = parser.parse_args()
    open_device(args.device)
    start = time.perf_counter()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mean = make_data(folder, args.images)
        makers = {name: make for name, make in contestants(folder, mean, args).items() if args.only in name}
        running = {name: make() for name, make in makers.items()}
        speeds: dict[str, list[float]] = {name: [] for name in running}
        memory, copy = [], CopySpeed(args.threads)
        for _ in range(args.turns):
            copy.measure()
            for name, batches in running.items():  # ours first, and once in any case
                fits = time.perf_counter() - start + REST_S + args.seconds < args.limit
                if fits or (name.endswith("/ours") and not speeds[name]):
                    speeds[name].append(images_per_second(batches, args))
            memory.append(resident_mb())
        running.clear()
        makers.clear()
    report(args, {name: statistics.median(values) for name, values in speeds.items() if values}, memory, copy.best)


def report(args: argparse.Namespace, speeds: dict[str, float], memory: list[float], copied: float) -> None:
    """The table and the file."""
    bound = copied / BYTES_PER_IMAGE
    print(f"copy {copied / 1e9:.1f} GB/s with {args.threads} threads: at most {bound:.0f} images/s of raw records")
    rows = []
    for name, speed in speeds.items():
        kind = name.split("/")[0]
        baseline = speeds.get(f"{kind}/py-lmdb DataLoader", float("nan"))
        row = {"name": name, "images_per_s": speed, "to_baseline": speed / baseline, "of_bound": speed / bound}
        rows.append(row)
        print(f"{name:30s} {speed:9.0f} images/s  {row['to_baseline']:6.2f} x (a)  {row['of_bound']:6.1%} of the bound")
    print(f"memory after each turn: {', '.join(f'{m:.0f}' for m in memory)} MB")
    if args.json:
        facts = {
            "machine": platform.processor() or platform.machine(),
            "cores": usable_cores(),
            "date": time.strftime("%F"),
        }
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        result = {**facts, "settings": settings, "copy_gb_per_s": copied / 1e9, "memory_mb": memory, "rows": rows}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
