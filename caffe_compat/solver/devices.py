"""Which CUDA devices a command line or solver file asks for."""

import torch

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2


def parse_gpus(flag: str, name: str = "--gpu", cpu: str = "no --gpu") -> list[int]:
    """``--gpu``: "" (none), "all", or numbers with commas, to device numbers that exist.

    Raises SolverError, which says ``name`` where it came from, and ``cpu``, what chooses the CPU ("": nothing does).
    """
    if not flag:
        return []
    hint = f"; for the CPU give {cpu}" if cpu else ""
    count = torch.cuda.device_count()
    if flag == "all":
        if not count:
            raise SolverError(f"{name} all: PyTorch finds no CUDA device{hint}")
        return list(range(count))
    try:
        numbers = [int(word) for word in flag.split(",")]
    except ValueError:
        raise SolverError(
            f'{name} is "{flag}"; expected "all" or device numbers with commas, such as 0,1{hint}'
        ) from None
    for number in numbers:
        if not 0 <= number < count:
            raise SolverError(f"{name} {flag}: there is no CUDA device {number}; PyTorch finds {count}{hint}")
    if len(set(numbers)) != len(numbers):
        raise SolverError(f"{name} {flag}: names a device twice")
    return numbers


def solver_gpus(param: caffe_pb2.SolverParameter, flag: str, source: str) -> list[int]:
    """The devices to train on: ``--gpu``, or without it what an explicit ``solver_mode: GPU`` says."""
    if flag or not (param.HasField("solver_mode") and param.solver_mode == param.GPU):
        return parse_gpus(flag)
    count = torch.cuda.device_count()
    if param.device_id >= count:
        raise SolverError(
            f"{source}: solver_mode is GPU with device_id {param.device_id}, but PyTorch finds {count} CUDA device(s); "
            "set solver_mode: CPU"
        )
    return [param.device_id]


def device_of(gpus: list[int]) -> torch.device:
    """The first of the devices, or the CPU."""
    return torch.device("cuda", gpus[0]) if gpus else torch.device("cpu")
