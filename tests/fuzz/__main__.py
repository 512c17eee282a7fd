"""``python -m tests.fuzz``: damaged inputs for every reader, until the time is over.

Prints each fault that it finds once, saves its smallest input, and says how to see it again:

    make fuzz REPLAY=build/fuzz/lmdb-hang-0123456789.mdb
"""

import argparse
import hashlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir, redirect_stdout
from pathlib import Path
from random import Random

from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS, Reader
from tests.fuzz.worker import Outcome, Worker

FUZZED = [name for name, reader in READERS.items() if reader.fuzzed]
OUT = Path("build/fuzz")
_MOST_KEPT = 300  # inputs of a reader that reached a new place and are damaged further
_SHRINK_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="of all readers together, default 600")
    parser.add_argument("--inputs", type=int, help="of each reader at most, so that a seed says which; default: any")
    parser.add_argument("--seed", type=int, help="default: one of its own each time, printed")
    parser.add_argument("--readers", nargs="*", default=FUZZED, choices=list(READERS), metavar="NAME")
    parser.add_argument("--replay", type=Path, help="a saved input: read it again, with a traceback")
    args = parser.parse_args(argv)
    if args.replay:
        return replay(args.replay)
    seed = int.from_bytes(os.urandom(4), "little") if args.seed is None else args.seed
    print(f"fuzz: {len(args.readers)} readers, {args.seconds:g} s, seed {seed}", flush=True)
    found = 0
    begin = time.monotonic()
    for number, name in enumerate(args.readers):
        left = args.seconds - (time.monotonic() - begin)
        found += fuzz(READERS[name], max(1.0, left / (len(args.readers) - number)), seed, args.inputs)
    print(f"fuzz: {found} faults; seed {seed}")
    return 1 if found else 0


def fuzz(reader: Reader, seconds: float, seed: int, most: int | None = None) -> int:
    """Damage inputs of one reader, ``most`` of them or all that the time has; returns how many faults were found."""
    faults: set[tuple[str, str, str]] = set()
    shapes: set[tuple[str, str]] = set()
    tried = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        seeds = make_seeds(reader, folder)
        kept = list(seeds)
        worker = Worker(reader, folder)

        def see(data: bytes) -> None:
            outcome = worker.run(data)
            if outcome.is_fault and outcome.key() not in faults:
                faults.add(outcome.key())
                tell(reader, outcome, shrink(data, outcome, worker))
            elif not outcome.is_fault and outcome.shape() not in shapes:
                shapes.add(outcome.shape())
                kept.extend([data] * (len(kept) < _MOST_KEPT))

        try:
            for data in seeds:
                see(data)
            begin = time.monotonic()
            while time.monotonic() - begin < seconds and tried != most:
                rng = Random(f"{seed} {reader.name} {tried}")
                see(mutate(rng.choice(kept), reader.form, kept, rng))
                tried += 1
        finally:
            worker.close()
    print(f"fuzz: {reader.name}: {tried} inputs, {len(shapes)} ways to end, {len(faults)} faults", flush=True)
    return len(faults)


def make_seeds(reader: Reader, folder: Path) -> list[bytes]:
    """The good inputs, with what stands beside them in ``folder``."""
    with chdir(folder), redirect_stdout(io.StringIO()):
        return list(reader.seeds(folder))


def shrink(data: bytes, outcome: Outcome, worker: Worker) -> bytes:
    """The smallest part of ``data`` with the same outcome that is found in a few seconds."""
    end = time.monotonic() + (_SHRINK_S if outcome.kind != "hang" else 0)
    size = len(data) // 2
    while size and time.monotonic() < end:
        start = 0
        while start < len(data) and time.monotonic() < end:
            shorter = data[:start] + data[start + size :]
            if worker.run(shorter).key() == outcome.key():
                data = shorter
            else:
                start += size
        size //= 2
    return data


def tell(reader: Reader, outcome: Outcome, data: bytes) -> None:
    """Save the input and print how to see the fault again."""
    digest = hashlib.sha256(data).hexdigest()[:10]
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{reader.name}-{outcome.kind}-{digest}{Path(reader.input_name).suffix}"
    path.write_bytes(data)
    print(f"fuzz: {reader.name}: {outcome.kind} at {outcome.place or '?'}: {outcome.text[:300]!r}")
    print(f"      make fuzz REPLAY={path}", flush=True)


def replay(path: Path) -> int:
    """Read a saved input, whose name starts with its reader's."""
    reader = READERS[path.name.partition("-")[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        data = path.read_bytes()
        make_seeds(reader, folder)
        worker = Worker(reader, folder)
        outcome = worker.run(data)
        worker.close()
    print(f"{reader.name}: {outcome.kind} at {outcome.place or '?'}: {outcome.text}")
    if outcome.details:
        print(outcome.details)
    return 1 if outcome.is_fault else 0


if __name__ == "__main__":
    sys.exit(main())
