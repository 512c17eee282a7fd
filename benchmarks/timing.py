"""Medians of contestants that run in turns, so that a slow minute of the machine hits all of them."""

import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sized
from pathlib import Path

import torch

Contestants = Mapping[str, Callable[[], object]]


def open_device(name: str) -> torch.device:
    """The device of ``--device``; where it is not there, the program ends with one line."""
    try:
        device = torch.device(name)
    except RuntimeError:
        sys.exit(f"--device {name}: there is no such device; expected cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        sys.exit(f"--device {name}: PyTorch finds {torch.cuda.device_count()} CUDA devices; expected cpu")
    return device


def check_found(found: Sized, model: Path | None, what: str) -> None:
    """Where a net has nothing to measure, the program ends with one line."""
    if not found:
        sys.exit(f"{model}: has no {what}; give another net to --model")


def median_ms(
    contestants: Contestants, device: torch.device, rounds: int = 11, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Milliseconds a call, by CUDA events or, on the CPU, by ``clock``, after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_index in range(rounds + 1):
        for name, call in contestants.items():
            elapsed = _cuda_ms(call) if device.type == "cuda" else _clock_ms(call, clock)
            if round_index:
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def _clock_ms(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return 1e3 * (clock() - start)


def _cuda_ms(call: Callable[[], object], repeats: int = 5) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / repeats


def print_table(title: str, rows: Mapping[str, Mapping[str, float]], ratio_to: str = "ours") -> None:
    """Milliseconds, with each contestant's ratio to ``ratio_to`` behind it."""
    print(f"\n{title}: median ms (times {ratio_to})")
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"{'':34}" + "".join(f"{name:>22}" for name in names))
    for label, row in rows.items():
        cells = (f"{row[n]:.3f} ({row[n] / row[ratio_to]:.2f})" if n in row else "-" for n in names)
        print(f"{label:34}" + "".join(f"{cell:>22}" for cell in cells))


def machine(device: torch.device) -> dict[str, str | int]:
    """What the numbers were taken on."""
    return {
        "device": device.type,
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() or 0 if device.type == "cuda" else 0,
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The CPU's name and the widest vectors that PyTorch uses on it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{found[1] if found else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
