"""What decides a run's numbers, noted in its folder, so that it is continued only with the same."""

import json
from pathlib import Path
from typing import Any

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError, reading
from reproduce.dataset import find_data_set
from reproduce.mode import Mode
from reproduce.options import PRECISIONS, Options

SETTINGS = "settings.json"
IMAGES = "data/images.json"  # what is known of the databases
_CURE = "remove it, or choose another --out"
_MOST = 2**31 - 1


def note_settings(options: Options, threads: int) -> int:
    """Note the options that decide the numbers; DataError when the folder was begun with others.

    Returns the threads of each network, which decide numbers too, as they order sums: those that the run was begun
    with, whatever --jobs and the machine are now.  Settings that nothing was made with are replaced.
    """
    file = options.out / SETTINGS
    ours = options.settings_that_decide()
    if not file.exists():
        write_text(file, json.dumps({**ours, "threads": threads}, indent=1) + "\n")
        return threads
    theirs = read_noted(file)
    begun_with = _threads(theirs, file, threads)  # a folder of before they were noted
    for name, value in ours.items():
        if theirs.get(name, _UNSAID.get(name)) != value:
            if not is_bound(options.out):
                file.unlink()
                return note_settings(options, threads)
            raise DataError(
                f"{options.out}: was begun with --{name.replace('_', '-')} {theirs.get(name)}, not {value}; "
                "choose another --out, or add --no-resume to start anew"
            )
    if "threads" not in theirs:
        write_text(file, json.dumps({**theirs, "threads": threads}, indent=1) + "\n")
    return begun_with


#: what a folder of before an option was there means by not naming it
_UNSAID = {
    "separate": "False",
    "same_crops": "False",
    **dict.fromkeys(("encode_type", "model", "data_a", "data_b", "resize"), "None"),
}


def is_bound(out: Path) -> bool:
    """Whether anything was made with the settings that ``out`` notes: a database or a network's folder."""
    made = (out / IMAGES).exists(), any((out / "data").rglob("data.mdb"))
    return any(made) or any(out.glob("*/solver.prototxt"))


def noted_mode(out: Path) -> Mode:
    """How the networks of ``out`` are computed, as noted when the run was begun; DataError when it is not there."""
    file = out / SETTINGS
    noted = read_noted(file)
    fast, precision = noted.get("fast", "False"), noted.get("precision", PRECISIONS[0])
    if fast not in ("False", "True") or precision not in PRECISIONS:
        raise DataError(f"{file}: says neither --fast nor --precision as a run notes them; {_CURE}")
    return Mode(_threads(noted, file, 1), fast == "True", precision)


def read_noted(file: Path) -> dict[str, Any]:
    """What an earlier run has noted in a JSON file.  Raises DataError."""
    with reading(file, f"what an earlier run has noted; {_CURE}"):
        noted = json.loads(file.read_text())
    if not isinstance(noted, dict):
        raise DataError(f"{file}: is no JSON object; {_CURE}")
    return noted


def noted_checks(out: Path) -> dict[str, str]:
    """How the images of a run compare with the authors': {what: in words}; {} where that is not known."""
    file = out / IMAGES
    checks = read_noted(file).get("checks", {}) if file.exists() else {}
    if not is_text(checks):
        raise DataError(f"{file}: checks are no texts; {_CURE}")
    return dict(checks)


def is_text(noted: object) -> bool:
    """Whether it is {text: text}."""
    return isinstance(noted, dict) and all(isinstance(text, str) for text in (*noted, *noted.values()))


def tells_of_images(noted: dict[str, Any]) -> bool:
    """Whether it is what a run notes of its databases."""
    made, counts = noted.get("made"), noted.get("test_images")
    numbers = [noted.get("classes"), noted.get("size"), *(counts.values() if isinstance(counts, dict) else [None])]
    return (
        isinstance(made, list)
        and all(isinstance(name, str) for name in made)
        and all(type(number) is int and 0 < number < _MOST for number in numbers)
        and type(noted.get("same_numbers")) is bool
        and is_text(noted.get("checks"))
        and noted.get("channels") in (0, 1, 3)
    )


def noted_shape(out: Path) -> tuple[int, int]:
    """(channels, size in pixels) of a run's images."""
    noted = read_noted(out / IMAGES) if (out / IMAGES).exists() else {}
    if noted.get("channels") and tells_of_images(noted):
        return noted["channels"], noted["size"]
    data_set, _ = find_data_set(str(read_noted(out / SETTINGS).get("data")))  # of before they were noted
    return data_set.channels, data_set.size_px


def _threads(noted: dict[str, Any], file: Path, default: int) -> int:
    threads = noted.get("threads", default)
    if not isinstance(threads, int) or threads < 1:
        raise DataError(f"{file}: threads is {threads!r}; expected a number from 1; {_CURE}")
    return threads
