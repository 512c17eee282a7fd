"""What a data set is to the experiment, and the one that ``--data`` names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from caffe_compat.errors import DataError
from reproduce.databases import record_counts, stored_bytes, write_databases
from reproduce.images import Images, at_size, shape_of
from reproduce.network import Network
from reproduce.splits import half_classes

#: side of the images in pixels -> the folder below prototxt/ whose networks take them
PROTOTXT_OF_SIZE = {28: "miniature/fashion-mnist", 32: "miniature/photos"}
#: at least as large as the crop of the paper's networks
PAPER_LEAST_PX = 227


@dataclass(frozen=True)
class Prepared:
    """What the run folders must know of the databases."""

    classes: int
    size_px: int  # height and width of the images
    test_images: dict[str, int] = field(default_factory=dict)  # {half0A: 1550, ...}; empty: tests as in the prototxt
    same_numbers: bool = False  # a test is shortened to one pass over them only where its numbers stay the same
    checks: dict[str, str] = field(default_factory=dict)  # {what: how it compares with the authors'}
    channels: int = 0  # of the images; 0: what the data set says


@dataclass(frozen=True)
class Storage:
    """In what form a data set keeps its databases, where it has a choice."""

    encode_type: str = ""  # as files of this type (jpg); "": raw pixels
    separate: bool = False  # a database for each half and reduced set, in place of one and index files
    resize_px: int = 0  # images are brought to this size; 0: as they are


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
    has_storage: bool = False  # whether it has a choice of Storage's encode_type and separate
    resizes: bool = False  # whether it takes Storage's resize_px
    of_the_paper: bool = False  # whether it is the authors', so that accuracies can be laid over theirs

    def prototxt_folder(self, size_px: int) -> str:
        """The folder below prototxt/ for images of ``size_px``; DataError when none suits."""
        return self.prototxt

    def check(self, path: str) -> None:  # noqa: B027  (most have nothing to look for)
        """DataError when nothing lies at ``path``: a quick look, before anything is written."""

    def shape(self, path: str) -> tuple[int, int]:
        """(channels, height or width in pixels) of the images at ``path``, by a quick look; DataError for none."""
        return self.channels, self.size_px

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

    def record_counts(self, path: str, networks: Iterable[Network], storage: Storage) -> dict[str, int]:
        """{database: how many records ``prepare`` writes into it}; {} where that is not known.

        Raises DataError when the images are not there.
        """
        return {}


class LoadedDataSet(DataSet):
    """A data set that can hand out its images one by one; its databases are written from them."""

    resizes = True

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
        images = at_size(self.load(path, download), storage.resize_px)
        for split in {network.split for network in networks if network.split}:
            half_classes(split, len(images.classes), images.natural)
        tests = write_databases(images, networks, folder, tell)
        return Prepared(len(images.classes), images.size, tests, channels=shape_of(images)[0])

    def database_bytes(self, path: str, networks: Iterable[Network], storage: Storage) -> float:
        """See DataSet."""
        images = at_size(self.load(path, download=False), storage.resize_px)
        count = sum(record_counts(images, networks).values())
        return float(count * stored_bytes(len(images.record("train", 0, 0))))

    def record_counts(self, path: str, networks: Iterable[Network], storage: Storage) -> dict[str, int]:
        """See DataSet."""
        return record_counts(at_size(self.load(path, download=False), storage.resize_px), networks)


def prototxt_of_size(name: str, size_px: int) -> str:
    """The folder below prototxt/ with networks for images of one's own; DataError where there is none."""
    if size_px >= PAPER_LEAST_PX:
        return "paper"
    if size_px not in PROTOTXT_OF_SIZE:
        raise DataError(
            f"--data {name}: images of {size_px} pixels; our networks take 28, 32, or {PAPER_LEAST_PX} and more: give "
            "--resize 32, or networks of your own with --prototxt, or --model resnet18"
        )
    return PROTOTXT_OF_SIZE[size_px]


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
