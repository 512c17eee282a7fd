"""The process-wide random stream: fillers, dropout and the data layers draw from it, as in Caffe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from caffe_compat.random.caffe_generator import CaffeGenerator


@dataclass
class Stream:
    """A process-wide stream, in force or put by."""

    generator: CaffeGenerator | None = None  # made at its first use
    is_seeded: bool = False


_stream = Stream()


def set_seed(seed: int) -> None:
    """Start the process-wide stream anew (``Caffe::set_random_seed``), and CUDA's generators.

    From now on dropout on the CPU draws from this stream too.  PyTorch's CPU generator is
    left alone.
    """
    import torch

    _stream.generator = CaffeGenerator(seed)
    _stream.is_seeded = True
    torch.cuda.manual_seed_all(seed & 0xFFFFFFFF)


def is_seeded() -> bool:
    """Whether ``set_seed`` was called: the user wants Caffe's numbers."""
    return _stream.is_seeded


def generator() -> CaffeGenerator:
    """The process-wide stream.  Without a ``set_seed``, its first use seeds it from PyTorch's CPU
    generator, so that ``torch.manual_seed`` makes a run repeatable.
    """
    if _stream.generator is None:
        import torch

        _stream.generator = CaffeGenerator(int(torch.randint(2**32, ())))
    return _stream.generator


def exchange(stream: Stream) -> Stream:
    """Put ``stream`` in force, in all threads; returns the one that was."""
    global _stream
    before, _stream = _stream, stream
    return before


@contextmanager
def scope(seed: int | None = None) -> Iterator[None]:
    """A process-wide stream of its own for the block: as in a new process, or after ``set_seed(seed)``.

    At the end the stream that was there goes on where it stood, seeded or not.  CUDA's generators, which ``set_seed``
    starts anew, stay as the block leaves them.  All threads of the process see the block's stream.
    """
    before = exchange(Stream())
    try:
        if seed is not None:
            set_seed(seed)
        yield
    finally:
        exchange(before)
