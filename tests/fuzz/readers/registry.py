"""How a reader is written down, and its good inputs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = Path(__file__).parents[2] / "cases"
_MOST_SEEDS, _MOST_SEED_BYTES = 40, 1 << 16


@dataclass(frozen=True)
class Reader:
    """``read`` gets the path of an input, which is called ``input_name``, and raises CaffeCompatError for a bad one.

    ``seeds``: makes, in an empty folder, what stands beside an input; gives good inputs.  ``form``: of which kind the
    structured mutations are.  ``names_file``: its errors name the file.  ``fuzzed``: its inputs are damaged at random;
    else it is for cases only, which may ask for more memory than there is, if they are told so.
    """

    name: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], Iterable[bytes]]
    form: str
    input_name: str
    names_file: bool = True
    fuzzed: bool = True


READERS: dict[str, Reader] = {}


def reader(
    name: str,
    seeds: Callable[[Path], Iterable[bytes]],
    form: str,
    suffix: str = "",
    *,
    names_file: bool = True,
    fuzzed: bool = True,
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Adds the function as the reader of this name; ``suffix``: of its inputs, or their whole name."""

    def add(function: Callable[[Path], object]) -> Callable[[Path], object]:
        input_name = suffix if suffix and not suffix.startswith(".") else f"input{suffix}"
        READERS[name] = Reader(name, function, seeds, form, input_name, names_file, fuzzed)
        return function

    return add


def written(write: Callable[[Path], object], suffix: str = "") -> bytes:
    """The bytes that a writer of a file leaves."""
    path = Path(f"seed{suffix}").absolute()
    write(path)
    data = path.read_bytes()
    path.unlink()
    return data


def stored(*patterns: str) -> list[bytes]:
    """Files of the golden cases."""
    found = sorted(path for pattern in patterns for path in GOLDEN.glob(pattern))
    files = [path.read_bytes() for path in found if path.stat().st_size <= _MOST_SEED_BYTES]
    return files[:: -(-len(files) // _MOST_SEEDS)] if files else []
