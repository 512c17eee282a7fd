"""Re-run the experiment of Yosinski et al., NIPS 2014, from images to figures.

    python reproduce/run_paper.py --split 0                            # drawn glyphs, no download
    python reproduce/run_paper.py --split 0 --data fashion-mnist
    python reproduce/run_paper.py --split 0 --data imagenet:ILSVRC2012 --devices cuda:0,1

Stopped at any moment and started again, it continues.  The results are in --out: a folder per
network, results.csv, figures/ and report.html.
"""

import argparse
import errno
import sys
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the package is the folder of this file

from rich.console import Console

from caffe_compat.errors import CaffeCompatError
from reproduce.datasets import CHOICES
from reproduce.experiment import Options, run, show_plan
from reproduce.plan import EXTRA_TREATMENTS, TREATMENTS
from reproduce.runners import WorkerDied
from reproduce.splits import SPLITS


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"run_paper: {message}; see --help\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--split", default="0", help=f"one of {', '.join(SPLITS)} (default: 0)")
    add("--data", default="glyphs", help=f"{CHOICES} (default: glyphs)")
    add("--out", type=Path, default=Path("paper_run"), help="folder for everything (default: paper_run)")
    names = ", ".join(TREATMENTS + EXTRA_TREATMENTS)
    add("--treatments", type=_names, default=TREATMENTS, help=f"from {names} (default: the first {len(TREATMENTS)})")
    add("--layers", type=_numbers, default=_numbers("1-7"), help="depths n to cut at, as 1,3,5-7 (default: 1-7)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iters", type=_positive, help="iterations per network (default: as the solver file)")
    length.add_argument("--scale", type=float, default=1.0, help="length of training against the solver file's")
    add("--seed", type=int, default=0, help="decides initial weights, crops and dropout (default: 0)")
    add("--devices", type=_devices, default=("cpu",), help="cpu, or GPUs as cuda:0,1 (default: cpu)")
    add("--jobs", type=_positive, help="networks trained at a time (default: one per core or GPU)")
    add("--fast", action="store_true", help="the solver's fast mode: the same numbers up to rounding (docs/solver.md)")
    add("--precision", choices=("fp32", "tf32", "bf16"), default="fp32", help="of products on the GPU (default: fp32)")
    add("--resume", action=argparse.BooleanOptionalAction, default=True, help="continue, or start anew")
    add("--download", action="store_true", help="let torchvision fetch fashion-mnist or cifar100")
    add("--prototxt", type=Path, help="folder with base/{train,val,solver}.prototxt of another network")
    add("--dry-run", action="store_true", help="list the networks, their order and cost, and stop")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
    numbers = set[int]()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return int(text)


def _devices(text: str) -> tuple[str, ...]:
    """``cuda:0,1`` is cuda:0 and cuda:1."""
    return tuple(f"cuda:{part}" if part.isdigit() else part for part in text.split(","))


def main(arguments: list[str] | None = None) -> int:
    """0; 2 for wrong input or a full disk, 1 for a process that died, 130 for Ctrl-C."""
    args = vars(parse(arguments))
    options = Options(**{field.name: args[field.name] for field in fields(Options)})
    console = Console(soft_wrap=True)
    try:
        if args["dry_run"]:
            show_plan(options, console)
        else:
            run(options, console)
    except WorkerDied as error:
        return _fail(str(error), 1)
    except CaffeCompatError as error:
        return _fail(str(error), 2)
    except OSError as error:
        cure = "free some space or choose another --out" if error.errno == errno.ENOSPC else "choose another --out"
        return _fail(f"{error.filename or options.out}: {error.strerror}; {cure}", 2)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to continue", 130)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"run_paper: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
