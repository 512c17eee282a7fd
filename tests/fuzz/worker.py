"""One reader on one input after another in a process of its own, under a limit of memory."""

import multiprocessing
import os
import re
import resource
import shutil
import signal
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import lmdb
import torch

import caffe_compat
import reproduce
from caffe_compat.errors import CaffeCompatError
from tests.fuzz.readers import READERS, Reader

MEMORY_BYTES = 1 << 30  # of addresses, above what the process has to begin with
TIMEOUT_S = 30.0
_INPUTS_PER_PROCESS = 2000
#: folders, as a clone may well be called as the package is
_OURS = tuple(f"{Path(package.__path__[0])}{os.sep}" for package in (caffe_compat, reproduce))


@dataclass(frozen=True)
class Outcome:
    """How a reader ended: ``kind`` is "read", "refused", or a fault: "exception", "memory", "message", "crash", "hang".

    ``text``: the error, with its type; ``place``: the last line of our own in its traceback.
    """

    kind: str
    text: str = ""
    place: str = ""
    details: str = ""  # the traceback of a fault

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("read", "refused")

    def key(self) -> tuple[str, str, str]:
        """Alike for inputs that show the same fault."""
        return (self.kind, self.text.partition(":")[0], self.place)

    def shape(self) -> tuple[str, str]:
        """Alike for inputs that were refused for the same reason, whatever names and numbers are in it."""
        return (self.place, re.sub(r"""\S*/\S*|"[^"]*"|'[^']*'|\d+""", "", self.text))


class Worker:
    """Runs a reader; its process is started when it is needed, and again when it has ended."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        """``folder``: where the reader's inputs lie, with what stands beside them."""
        self._reader, self._folder = reader, folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._left = 0

    def run(self, data: bytes, timeout_s: float = TIMEOUT_S) -> Outcome:
        """Read one input."""
        if self._process is None or not self._left:
            self._start()
        assert self._process is not None
        assert self._connection is not None
        self._left -= 1
        try:
            self._connection.send_bytes(data)
            if not self._connection.poll(timeout_s):
                self.close()
                return Outcome("hang", f"no end within {timeout_s:g} s")
            outcome: Outcome = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            self.close()
            return Outcome("crash", signal.Signals(-code).name if code < 0 else f"exit status {code}")
        if outcome.kind == "memory":
            self._left = 0  # what is left of it may be in the way
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._connection is not None
            self._connection.close()
            self._process.kill()
            self._process.join()
        self._process = None

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("forkserver")  # forks a process that has no threads, with all imported
        context.set_forkserver_preload(["tests.fuzz.readers"])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._reader.name, self._folder, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._left = _INPUTS_PER_PROCESS


def _serve(name: str, folder: Path, connection: Connection) -> None:
    reader = READERS[name]
    torch.set_num_threads(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    _limit_memory()
    path = folder / reader.input_name
    while True:
        try:
            data = connection.recv_bytes()
        except (EOFError, OSError):
            return
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)  # not written over: an earlier one may still be mapped
        path.write_bytes(data)
        connection.send(observe(reader, path))


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def observe(reader: Reader, path: Path) -> Outcome:
    """Read the file at ``path`` here and now."""
    try:
        reader.read(path)
    except BaseException as error:  # whatever it is: that is what we look for
        kind = _kind(error, reader)
        details = "" if kind == "refused" else "".join(traceback.format_exception(error))
        return Outcome(kind, f"{type(error).__name__}: {error}", _place(error), details)
    return Outcome("read")


def _kind(error: BaseException, reader: Reader) -> str:
    is_ours = isinstance(error, CaffeCompatError)
    if any(_lacks_memory(link) for link in _chain(error)) and (reader.fuzzed or not is_ours):
        return "memory"
    if not is_ours:
        return "exception"
    said = str(error)
    named = reader.input_name in said or not reader.names_file
    return "refused" if named and said.isprintable() else "message"


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        # Python's parser says so of what is nested too deep.
        return Path(traceback.extract_tb(error.__traceback__)[-1].filename).name != "ast.py"
    if isinstance(error, CaffeCompatError | lmdb.Error):  # a map, of Caffe's 1 TB, takes addresses only
        return False
    return any(text in str(error) for text in ("allocate memory", "bad_alloc", "bad allocation", "not enough memory"))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _place(error: BaseException) -> str:
    """The last line of ours that it went through."""
    found = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in found if is_ours(frame.filename) and Path(frame.filename).name != "errors.py"]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def is_ours(file: str) -> bool:
    """Whether a source file is of the package or of the experiment."""
    return file.startswith(_OURS)
