"""pycaffe's process-wide settings: device, random seed, place among parallel solvers."""

import os
import warnings

import torch

from caffe_compat import random
from caffe_compat.data.libc_random import restart_process_random
from caffe_compat.errors import CaffeCompatError

_device_number = 0
_use_gpu = False
_solver_count = 1
_solver_rank = 0
_multiprocess = False
_warned = False


def set_mode_cpu() -> None:
    """Nets made from now on run on the CPU (the default)."""
    global _use_gpu
    _use_gpu = False


def set_mode_gpu() -> None:
    """Nets made from now on run on the CUDA device of ``set_device``.

    Without one they run on the CPU, after one warning; with CAFFE_COMPAT_REQUIRE_GPU=1 that is an error.
    """
    global _use_gpu, _warned
    if torch.cuda.is_available():
        _use_gpu = True
        return
    problem = "set_mode_gpu: PyTorch finds no CUDA device"
    if os.environ.get("CAFFE_COMPAT_REQUIRE_GPU") == "1":
        raise CaffeCompatError(f"{problem}, and CAFFE_COMPAT_REQUIRE_GPU=1 asks for one; use set_mode_cpu()")
    if not _warned:
        _warned = True
        warnings.warn(f"{problem}: everything runs on the CPU (CAFFE_COMPAT_REQUIRE_GPU=1 makes this an error)")


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


def set_multiprocess(value: bool) -> None:
    """Say that the solvers are processes of their own, which here they always are."""
    global _multiprocess
    _multiprocess = bool(value)


def multiprocess() -> bool:
    """As set by ``set_multiprocess``."""
    return _multiprocess
