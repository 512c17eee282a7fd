"""Where a run's numbers come from: the commands, code, machines, dates, and checksums of data and results."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from caffe_compat import __version__
from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError, reading
from reproduce.curves import Course
from reproduce.options import Options

CALLS = "calls"  # folder with a file for each command that prepared or trained here
VERSIONS_OF = ("torch", "numpy", "protobuf")
#: of the data: lists and mean images say which images, in which order, and their pixels; databases are too large
CHECKED = ("*.txt", "*.binaryproto")
_TIME = "%Y-%m-%d %H:%M:%S UTC"


def note_call(options: Options) -> None:
    """Note this command in the folder, in a file of its own, as several machines may train there at once."""
    now = time.time()
    call = {
        "command": command_of(options),
        "date": moment(now),
        "machine": machine(options.devices),
        "versions": versions(),
        "commit": commit(),
    }
    folder = options.out / CALLS
    folder.mkdir(exist_ok=True)
    name = f"{int(1000 * now)}-{platform.node()}-{os.getpid()}.json"
    write_text(folder / name, json.dumps(call, indent=1) + "\n")


def noted_calls(out: Path) -> list[dict[str, str]]:
    """What ``note_call`` noted, oldest first; [] for a folder of before.  Raises DataError for a damaged file."""
    calls = []
    for file in sorted((out / CALLS).glob("*.json")):
        with reading(file, "what an earlier call has noted; remove it"):
            call = json.loads(file.read_text())
        if not isinstance(call, dict) or not all(isinstance(text, str) for text in call.values()):
            raise DataError(f"{file}: is not what a call notes; remove it")
        calls.append(call)
    return calls


def command_of(options: Options) -> str:
    """The command line that asks for these options."""
    words = ["run_paper.py", *([options.step] if options.step else [])]
    for option in fields(Options):
        value = getattr(options, option.name)
        if option.name == "step" or value == option.default:
            continue
        name = option.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def machine(devices: Sequence[str] = ()) -> str:
    """Processor, cores, and the GPUs that are used."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    parts = [found[1] if found else platform.machine(), f"{len(os.sched_getaffinity(0))} cores", *_gpus(devices)]
    return f"{', '.join(parts)}; {platform.system()} {platform.release()}"


def _gpus(devices: Sequence[str]) -> list[str]:
    if not any(device.startswith("cuda") for device in devices):
        return []
    import torch  # here: who trains on the CPU and who reports need not wait for it

    return [torch.cuda.get_device_name(device) for device in dict.fromkeys(devices) if device.startswith("cuda")]


def versions() -> str:
    """Of this program and of what computes for it."""
    others = [f"{name} {importlib.metadata.version(name)}" for name in VERSIONS_OF]
    return ", ".join([f"caffe-compat {__version__}", f"Python {platform.python_version()}", *others])


def commit() -> str:
    """The commit of the checkout that this runs from, and whether files were changed; "" for an installed package."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, timeout=20)
        if top.returncode or Path(top.stdout.splitlines()[0]) != folder.parent.resolve():
            return ""
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return top.stdout.splitlines()[1] + (", with changes" if changed.stdout.strip() else "")


def dates(courses: Iterable[Course]) -> str:
    """When the first network began and the last one ended."""
    known = [course for course in courses if course.began_s]
    if not known:
        return ""
    return f"{moment(min(c.began_s for c in known))} to {moment(max(c.ended_s for c in known))}"


def moment(seconds: float) -> str:
    """A time in seconds since 1970 as date and time; "" for what is no time, as in a damaged log."""
    try:
        return time.strftime(_TIME, time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def checksums(out: Path, tables: Sequence[str]) -> dict[str, str]:
    """{file: SHA-256} of a run's tables, and of the lists and mean images of its data."""
    files = [out / name for name in tables] + sorted(_data_files(out / "data"))
    return {str(file.relative_to(out)): _sha256(file) for file in files if file.is_file()}


def _data_files(folder: Path) -> Iterator[Path]:
    for pattern in CHECKED:
        yield from folder.rglob(pattern)


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
