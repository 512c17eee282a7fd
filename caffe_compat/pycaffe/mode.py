"""pycaffe's process-wide settings: device, random seed, place among parallel solvers."""

import torch

from caffe_compat import random
from caffe_compat.data.libc_random import restart_process_random
from caffe_compat.errors import CaffeCompatError

_device_number = 0
_use_gpu = False
_solver_count = 1
_solver_rank = 0


def set_mode_cpu() -> None:
    """Nets made from now on run on the CPU (the default)."""
    global _use_gpu
    _use_gpu = False


def set_mode_gpu() -> None:
    """Nets made from now on run on the CUDA device of ``set_device``."""
    global _use_gpu
    if not torch.cuda.is_available():
        raise CaffeCompatError("set_mode_gpu: PyTorch finds no CUDA device; use set_mode_cpu()")
    _use_gpu = True


def set_device(number: int) -> None:
    """Choose the CUDA device by number."""
    global _device_number
    _device_number = int(number)


def device() -> torch.device:
    """Where a new net goes."""
    return torch.device("cuda", _device_number) if _use_gpu else torch.device("cpu")


def set_random_seed(seed: int) -> None:
    """Start Caffe's random stream (fillers, dropout, data) at ``seed``, and torch's too.

    HDF5Data shuffles by the C library's stream, which Caffe never seeds: that one starts anew.
    """
    random.set_seed(int(seed))
    restart_process_random()
    torch.manual_seed(int(seed))


def set_solver_count(count: int) -> None:
    """How many solvers share the data."""
    global _solver_count
    _solver_count = int(count)


def solver_count() -> int:
    """As set by ``set_solver_count``."""
    return _solver_count


def set_solver_rank(rank: int) -> None:
    """Which of the solvers this process is, from 0."""
    global _solver_rank
    _solver_rank = int(rank)


def solver_rank() -> int:
    """As set by ``set_solver_rank``."""
    return _solver_rank
