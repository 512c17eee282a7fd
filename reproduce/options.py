"""The options of ``run_paper.py``: each is declared once, as a field of Options, with its help and how it is read."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from caffe_compat.cli import unknown_flag
from caffe_compat.errors import printable
from reproduce.dataset import choices, data_sets
from reproduce.lease import LEASE_S
from reproduce.plan import ALL, PAPER
from reproduce.splits import NATURAL_SPLIT, SPLITS
from reproduce.treatments import TREATMENTS, default_treatments

#: as which it is run from a checkout; ``caffe-compat reproduce`` is the same
PROGRAM = "run_paper.py"
LENGTH, SHOW, WHERE, NET = "length", "show", "where", "net"
#: the parts of the job: each can be done by itself, and without one of these words all are done but the last two
PREPARE, TRAIN, REPORT, STATUS = "prepare", "train", "report", "status"
DIAGNOSE = "diagnose"
STEPS = {
    PREPARE: "write databases and networks' folders, and train nothing",
    TRAIN: "train what is prepared in a folder",
    REPORT: "table, figures and report.html of every network that is finished in a folder, at any time",
    STATUS: "say where each network of a folder is",
    DIAGNOSE: "measure the finished networks of a folder layer by layer: training loss, CKA, stitching, resets",
}
WHOLE_JOB = ""
EVERY_STEP = (WHOLE_JOB, *STEPS)
PRECISIONS = ("fp32", "tf32", "bf16")
#: what `diagnose` can measure
MEASURES = ("loss", "cka", "stitch", "reset")
#: of iterations and other counts in a solver file
MOST = 2**31 - 1


def _read(
    read: Callable[[str], Any] | None,
    help_text: str | Callable[[], str],
    *,
    same: bool = False,
    one_of: tuple[str, ...] | None = None,
    group: str = "",
    steps: tuple[str, ...] = (WHOLE_JOB, PREPARE),
) -> dict[str, Any]:
    """How a field is read from the command line, where it is an option of the same name; ``read`` None: a switch.

    ``help_text`` may be a function, for what is known only when all data sets are loaded.  ``same``: decides the
    numbers, so that a run is continued only with the same.  Of the options of a ``group`` one can be given.  ``steps``:
    those that it belongs to.
    """
    return {"read": read, "help": help_text, "same": same, "one_of": one_of, "group": group, "steps": steps}


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _measures(text: str) -> tuple[str, ...]:
    names = _names(text)
    if not names or set(names) - set(MEASURES):
        raise _wrong(text, f"some of {', '.join(MEASURES)}, with commas")
    return names


def _wrong(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f'"{text}"; expected {expected}')


def _layers(text: str) -> tuple[int | str, ...]:
    """``1,conv3,5-7`` is 1, 5, 6, 7 and the layer conv3."""
    numbers, names = set[int](), dict[str, None]()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part)
        if ends is None:
            if not part.strip("0123456789-"):
                raise _wrong(text, "depths with commas, as 1,3,5-7, or names of layers")
            names[part] = None
            continue
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise _wrong(text, f"the smaller depth first, {last}-{first}")
        numbers |= set(range(first, last + 1))
    return (*sorted(numbers), *names)


def _positive(text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or not 1 <= int(text) <= MOST:
        raise _wrong(text, f"a whole number from 1 to {MOST}")
    return int(text)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise _wrong(text, "a number above 0")
    return scale


def _devices(text: str) -> tuple[str, ...]:
    """``cuda:0,1`` is cuda:0 and cuda:1."""
    devices = tuple(f"cuda:{part}" if part.isdigit() else part for part in text.split(","))
    if not all(re.fullmatch(r"cpu|cuda:\d{1,3}", device) for device in devices):
        raise _wrong(text, "cpu, or GPUs as cuda:0,1")
    return devices


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise _wrong(text, "a number from 1 to 65535")
    return int(text)


def _settings(text: str) -> tuple[tuple[str, str], ...]:
    """``partition=gpu,time=240`` in pairs; names as in Python, ``gpus_per_node``."""
    pairs = [part.partition("=")[::2] for part in text.split(",")]
    if not all(re.fullmatch(r"[a-z][a-z_-]*", name) and value for name, value in pairs):
        raise _wrong(text, "options of sbatch with commas, as partition=gpu,time=240,gpus_per_node=1")
    return tuple((name.replace("-", "_"), value) for name, value in pairs)


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text):
        raise _wrong(text, "a whole number from 0 to 9999")
    return int(text)


def _treatments_help() -> str:
    first = len(default_treatments())
    return f"from {', '.join(TREATMENTS)} (default: the first {first}; with --split {PAPER} all)"


def _split_help() -> str:
    return f"one of {', '.join(SPLITS)}, several with commas, {ALL} of them, or {PAPER}, the authors' own 170 networks"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    split: str = field(default="0", metadata=_read(str, _split_help))
    data: str = field(default="glyphs", metadata=_read(str, choices, same=True))
    data_a: str | None = field(
        default=None,
        metadata=_read(
            str, "a data set of its own as half A: a folder with one folder for each class, or as --data", same=True
        ),
    )
    data_b: str | None = field(default=None, metadata=_read(str, "the same for half B; not with --split", same=True))
    resize: int | None = field(
        default=None,
        metadata=_read(
            _positive, "bring images to that many pixels a side (default: as they are, of one size)", same=True
        ),
    )
    out: Path = field(default=Path("paper_run"), metadata=_read(Path, "folder for everything", steps=EVERY_STEP))
    treatments: tuple[str, ...] | None = field(default=None, metadata=_read(_names, _treatments_help))
    layers: tuple[int | str, ...] | None = field(
        default=None,
        metadata=_read(
            _layers,
            "depths n to cut at, as 1,3,5-7, or names of layers or blocks, as conv4 (default: all of the network, 1-7)",
        ),
    )
    iters: int | None = field(
        default=None,
        metadata=_read(_positive, "iterations per network (default: as the solver file)", same=True, group=LENGTH),
    )
    scale: float = field(
        default=1.0,
        metadata=_read(_scale, "length of training against the solver file's", same=True, group=LENGTH),
    )
    seed: int = field(default=0, metadata=_read(int, "decides initial weights, crops and dropout", same=True))
    seeds: int = field(
        default=1, metadata=_read(_positive, "how many seeds, from --seed on: each network that often, for intervals")
    )
    same_crops: bool = field(
        default=False,
        metadata=_read(
            None,
            "networks that train on the same images see them in the same windows and mirrors, so that --together can "
            "compute the frozen layers that they have in common once",
            same=True,
        ),
    )
    devices: tuple[str, ...] = field(
        default=("cpu",),
        metadata=_read(_devices, "cpu, or GPUs as cuda:0,1", steps=(WHOLE_JOB, PREPARE, TRAIN, DIAGNOSE)),
    )
    jobs: int | None = field(
        default=None,
        metadata=_read(
            _positive,
            "networks trained at a time (default: one per core or GPU)",
            steps=(WHOLE_JOB, PREPARE, TRAIN),
        ),
    )
    together: int = field(
        default=1,
        metadata=_read(
            _positive,
            "networks of the same images that a process trains side by side, reading each batch once",
            steps=(WHOLE_JOB, TRAIN),
        ),
    )
    retries: int = field(
        default=1,
        metadata=_read(_count, "further tries of a network whose process died", steps=(WHOLE_JOB, TRAIN)),
    )
    lease: float = field(
        default=LEASE_S,
        metadata=_read(
            _scale,
            "seconds without a sign of life after which others take over the network of a lost machine",
            steps=(WHOLE_JOB, TRAIN),
        ),
    )
    json: bool = field(
        default=False,
        metadata=_read(None, "print the table of status or --dry-run as JSON", group=SHOW, steps=(WHOLE_JOB, STATUS)),
    )
    watch: bool = field(
        default=False, metadata=_read(None, "draw the list of status again and again", group=SHOW, steps=(STATUS,))
    )
    serve: bool = field(
        default=False,
        metadata=_read(None, "show status as a page in a browser of this machine", group=SHOW, steps=(STATUS,)),
    )
    port: int = field(default=8470, metadata=_read(_port, "of --serve", steps=(STATUS,)))
    ray: str | None = field(
        default=None,
        metadata=_read(
            str,
            "train on the Ray cluster of this address, on `auto` (this machine's) or on `local` (one for this run)",
            group=WHERE,
            steps=(WHOLE_JOB, TRAIN),
        ),
    )
    slurm: tuple[tuple[str, str], ...] | None = field(
        default=None,
        metadata=_read(
            _settings,
            "train as jobs of Slurm, with these options of sbatch: partition=gpu,time=240,gpus_per_node=1 (minutes)",
            group=WHERE,
            steps=(WHOLE_JOB, TRAIN),
        ),
    )
    fast: bool = field(
        default=False,
        metadata=_read(None, "the solver's fast mode: the same numbers up to rounding (docs/solver.md)", same=True),
    )
    precision: str = field(
        default="fp32",
        metadata=_read(str, "of products on the GPU", same=True, one_of=PRECISIONS),
    )
    resume: bool = field(default=True, metadata=_read(None, "continue, or start anew"))
    download: bool = field(default=False, metadata=_read(None, "let torchvision fetch fashion-mnist or cifar100"))
    encode_type: str | None = field(
        default=None,
        metadata=_read(
            str,
            "store ImageNet as files of this type: a tenth of the disk (default: raw pixels)",
            same=True,
            one_of=("jpg", "png"),
        ),
    )
    separate: bool = field(
        default=False,
        metadata=_read(
            None, "a database for each half of ImageNet, for Caffe itself, in place of index files", same=True
        ),
    )
    prototxt: Path | None = field(
        default=None,
        metadata=_read(Path, "folder with base/{train,val,solver}.prototxt of another network", same=True, group=NET),
    )
    model: str | None = field(
        default=None,
        metadata=_read(
            str,
            "a classification network of torchvision, cut by block: resnet18, or with a size in pixels to which images "
            "are brought, vgg11:64",
            same=True,
            group=NET,
        ),
    )
    dry_run: bool = field(
        default=False,
        metadata=_read(None, "list the networks, their order and cost, hours and disk, and stop", steps=(WHOLE_JOB,)),
    )
    measures: tuple[str, ...] = field(
        default=MEASURES, metadata=_read(_measures, "what to measure, with commas", steps=(DIAGNOSE,))
    )
    images: int = field(default=1000, metadata=_read(_positive, "test images for CKA, at most", steps=(DIAGNOSE,)))
    stitch_iters: int = field(default=200, metadata=_read(_positive, "steps that train a stitch", steps=(DIAGNOSE,)))
    step: str = field(default=WHOLE_JOB, metadata={"same": False, "group": None})

    def settings_that_decide(self) -> dict[str, str]:
        """The options that decide the numbers, in words."""
        return {option.name: str(getattr(self, option.name)) for option in fields(self) if option.metadata["same"]}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{name_of(self.prog)}: {printable(message)}; see --help\n")


def name_of(program: str) -> str:
    """What a line of an error begins with: ``run_paper``, ``caffe-compat reproduce``."""
    return program.removesuffix(".py")


def parse(arguments: Sequence[str] | None, description: str, program: str = PROGRAM) -> Options:
    """The options of a command line (None: this process's); exits with one line when they cannot be read."""
    parser = make_parser(description, program)
    words = sys.argv[1:] if arguments is None else arguments
    _check_flags(parser, words)
    said = vars(_said_only(make_parser(description, program)).parse_args(words))
    step, folder = said.pop("step") or WHOLE_JOB, said.pop("folder")
    if folder is not None:
        if "out" in said:
            parser.error(f"{folder} and --out {said['out']}: both name the folder; expected one of them")
        said["out"] = folder
    for option in fields(Options):
        if option.name in said and step not in option.metadata["steps"]:
            name = option.name.replace("_", "-")
            belongs = [word or "the whole job" for word in option.metadata["steps"]]
            parser.error(f"--{name} is nothing that {step} asks for; it belongs to {', '.join(belongs)}")
    if "json" in said and step == WHOLE_JOB and "dry_run" not in said:
        parser.error("--json: the job prints no table; expected it with --dry-run, or of status")
    return Options(step=step, **said)


def _check_flags(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Before argparse takes what follows an unknown flag for a step."""
    flags = [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001  (no public list)
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and not any(flag.startswith(name) for flag in flags):
            parser.error(unknown_flag(word, [flag.lstrip("-") for flag in flags]))


def make_parser(description: str, program: str = PROGRAM) -> argparse.ArgumentParser:
    """The parser, whose help begins with ``description``."""
    parser = _Parser(
        prog=program,
        description=f"{description.strip()}\n\n{_steps_help()}\n\n{_data_sets_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "step", nargs="?", choices=list(STEPS), help="a part of the job (default: all but status and diagnose)"
    )
    parser.add_argument("folder", nargs="?", type=Path, help="the same as --out")
    groups: dict[str, Any] = {"": parser}
    for option in fields(Options):
        group = option.metadata["group"]
        if group is None:
            continue  # no option: the step
        if group not in groups:
            groups[group] = parser.add_mutually_exclusive_group()
        _add(groups[group], option)
    return parser


def _said_only(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser without defaults of options: those that it gives are on the command line."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no public list of its options)
        if action.option_strings:
            action.default = argparse.SUPPRESS
    return parser


def _add(place: Any, option: "Field[Any]") -> None:
    """Add an option to a parser; a default that the help does not explain is put behind it."""
    default = option.default
    known = option.metadata
    text = known["help"]() if callable(known["help"]) else known["help"]
    keywords: dict[str, Any] = {"default": default, "help": text}
    if known["read"] is None:
        keywords["action"] = argparse.BooleanOptionalAction if default else "store_true"
    else:
        keywords |= {"type": known["read"], "choices": known["one_of"]}
        if default is not None and "(default: " not in text:
            keywords["help"] = f"{text} (default: {','.join(default) if isinstance(default, tuple) else default})"
    place.add_argument(f"--{option.name.replace('_', '-')}", **keywords)


def _steps_help() -> str:
    return "\n".join(["steps:", *(f"  {step:8} {about}" for step, about in STEPS.items())])


def _data_sets_help() -> str:
    """A line for each data set."""
    width = max(len(data_set.usage) for data_set in data_sets().values())
    lines = [
        f"  {data_set.usage:{width}}  {data_set.about}\n  {'':{width}}  {NATURAL_SPLIT}: {data_set.natural}"
        for data_set in data_sets().values()
    ]
    return "\n".join([f"data sets, and halves A / B of the split {NATURAL_SPLIT}:", *lines])
