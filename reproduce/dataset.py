"""What a data set is to the experiment, and the one that ``--data`` names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from caffe_compat.errors import DataError
from reproduce.databases import count_records, stored_bytes, write_databases
from reproduce.images import Images
from reproduce.network import Network
from reproduce.splits import half_classes


@dataclass(frozen=True)
class Prepared:
    """What the run folders must know of the databases."""

    classes: int
    size_px: int  # height and width of the images
    test_images: dict[str, int] = field(default_factory=dict)  # {half0A: 1550, ...}; empty: tests as in the prototxt
    same_numbers: bool = False  # a test is shortened to one pass over them only where its numbers stay the same
    checks: dict[str, str] = field(default_factory=dict)  # {what: how it compares with the authors'}


@dataclass(frozen=True)
class Storage:
    """In what form a data set keeps its databases, where it has a choice."""

    encode_type: str = ""  # as files of this type (jpg); "": raw pixels
    separate: bool = False  # a database for each half and reduced set, in place of one and index files


class DataSet(ABC):
    """Images to run the experiment on; each module of ``datasets/`` has one subclass and one object of it, DATA_SET."""

    name: str  # in --data, before the colon
    usage: str  # in --help: the name, with the path if it takes one
    about: str  # in --help: what it is, in a few words
    natural: str  # in --help: what half A and half B of the split natman are
    prototxt: str  # folder below prototxt/ with its base networks
    size_px: int  # height and width of the images, as far as one can know without reading them
    channels: int = 3
    needs_path: bool = False
    has_storage: bool = False  # whether it has a choice of Storage
    of_the_paper: bool = False  # whether it is the authors', so that accuracies can be laid over theirs

    def prototxt_folder(self, size_px: int) -> str:
        """The folder below prototxt/ for images of ``size_px``; DataError when none suits."""
        return self.prototxt

    def check(self, path: str) -> None:  # noqa: B027  (most have nothing to look for)
        """DataError when nothing lies at ``path``: a quick look, before anything is written."""

    @abstractmethod
    def prepare(
        self,
        path: str,
        networks: Iterable[Network],
        folder: Path,
        *,
        download: bool,
        tell: Callable[[str], None],
        storage: Storage = Storage(),
    ) -> Prepared:
        """Write into ``folder`` what ``networks`` train and test on.

        ``path`` is what follows the colon of --data, "" for nothing; ``tell`` gets a line for each database;
        ``storage`` is for those that have a choice.
        Raises DataError when the images are not there, damaged, or too few.
        """

    @abstractmethod
    def database_bytes(self, path: str, networks: Iterable[Network], storage: Storage) -> float:
        """How much disk ``prepare`` needs, about.  Raises DataError when the images are not there."""


class LoadedDataSet(DataSet):
    """A data set that can hand out its images one by one; its databases are written from them."""

    @abstractmethod
    def load(self, path: str, download: bool) -> Images:
        """The images; DataError when they are not there or damaged."""

    def prepare(
        self,
        path: str,
        networks: Iterable[Network],
        folder: Path,
        *,
        download: bool,
        tell: Callable[[str], None],
        storage: Storage = Storage(),
    ) -> Prepared:
        """See DataSet."""
        networks = list(networks)
        images = self.load(path, download)
        for split in {network.split for network in networks if network.split}:
            half_classes(split, len(images.classes), images.natural)
        tests = write_databases(images, networks, folder, tell)
        return Prepared(len(images.classes), images.size, tests)

    def database_bytes(self, path: str, networks: Iterable[Network], storage: Storage) -> float:
        """See DataSet."""
        images = self.load(path, download=False)
        count = count_records(images, networks)
        return float(count * stored_bytes(len(images.record("train", 0, 0))))


@cache
def data_sets() -> dict[str, DataSet]:
    """Every data set by its name: the objects DATA_SET of the modules of ``datasets/``."""
    from reproduce import datasets  # here: its modules import this one

    names = sorted(module.name for module in iter_modules(datasets.__path__))
    found: list[DataSet] = [import_module(f"{datasets.__name__}.{name}").DATA_SET for name in names]
    return {data_set.name: data_set for data_set in found}


def choices() -> str:
    """What ``--data`` can say."""
    return ", ".join(data_set.usage for data_set in data_sets().values())


def find_data_set(choice: str) -> tuple[DataSet, str]:
    """(data set, path) of ``--data``; DataError unless it names one, with a path where it needs one."""
    name, _, path = choice.partition(":")
    data_set = data_sets().get(name)
    if data_set is None:
        raise DataError(f"--data {choice}: unknown; expected one of {choices()}")
    if data_set.needs_path and not path:
        raise DataError(f"--data {choice}: says no path; expected one of {choices()}")
    if path and ":" not in data_set.usage:
        raise DataError(f"--data {choice}: {name} takes no path; expected --data {name}")
    return data_set, path
