"""Writes docs/kernels.md: what nvcc makes of each CUDA kernel, and the time that the arithmetic and the bytes allow.

    python benchmarks/kernel_table.py [--nvcc PATH] [--architectures 80,90] [--out docs/kernels.md]

Needs nvcc, no GPU: nothing here is measured.  Registers, spills and shared memory are ptxas's own report.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from caffe_compat.atomic_file import write_text

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("lrn/lrn_cuda.cu", "pool/pool_cuda.cu", "conv/conv_cuda.cu")
THREADS = 256  # kThreads
REGISTERS_PER_SM, THREADS_PER_SM = 65536, 2048
SHARED_PER_SM = {"80": 164 * 1024, "90": 228 * 1024}


@dataclass(frozen=True)
class Gpu:
    """Peak rates from NVIDIA's data sheets (SXM, dense)."""

    name: str
    bytes_per_s: float
    fp32_flops: float
    tf32_flops: float


GPUS = (Gpu("A100", 2.04e12, 19.5e12, 156e12), Gpu("H100", 3.35e12, 67e12, 495e12))


@dataclass(frozen=True)
class Kernel:
    name: str
    architecture: str
    registers: int
    spill_bytes: int
    shared_bytes: int

    def occupancy(self) -> float:
        """Part of an SM's threads that can be resident."""
        # Registers are given out to warps in units of 256, so 8 a thread.
        by_registers = REGISTERS_PER_SM // (-(-self.registers // 8) * 8 * THREADS)
        by_shared = SHARED_PER_SM.get(self.architecture, 228 * 1024) // max(self.shared_bytes + 1024, 1)
        return min(by_registers, by_shared, THREADS_PER_SM // THREADS) * THREADS / THREADS_PER_SM


@dataclass(frozen=True)
class Work:
    """One operator call of CaffeNet at batch 256 in float32, with the least it must move and compute."""

    name: str
    megabytes: float
    gigaflop: float
    tensor_products: int = 0  # TF32 products for each float32 one; 0: no tensor cores


def lrn_work() -> list[Work]:
    """Bytes: each tensor once.  About 25 operations an output forward, 45 backward."""
    rows = []
    for name, shape in (("norm1", (256, 96, 27, 27)), ("norm2", (256, 256, 13, 13))):
        count = torch.Size(shape).numel()
        rows.append(Work(f"LRN {name} forward", 2 * count * 4e-6, 25 * count * 1e-9))
        rows.append(Work(f"LRN {name} backward", 3 * count * 4e-6, 45 * count * 1e-9))
    return rows


def pool_work() -> list[Work]:
    """Bytes: input (or its gradient), output and one byte for its taps, with LRN also the pooled values.

    About 4 operations a tap forward (two comparisons, two selections); backward the 9 windows' shares of 4 pixels are
    about 40 an output.  LRN's as above.  All are bound by bytes on both GPUs: what decides is whether 16 to 20 KB a SM
    are in flight, and the kernels' occupancy below gives 20 KB and more.
    """
    rows = []
    for name, channels, size, out_size, lrn in (
        ("ReLU, pool1, norm1", 96, 55, 27, True),
        ("ReLU, pool2, norm2", 256, 27, 13, True),
        ("ReLU, pool5", 256, 13, 6, False),
    ):
        inputs, outputs = 256 * channels * size**2, 256 * channels * out_size**2
        megabytes = (4 * inputs + (9 if lrn else 5) * outputs) * 1e-6
        rows.append(Work(f"{name} forward", megabytes, (36 + 25 * lrn) * outputs * 1e-9))
        rows.append(Work(f"{name} backward", megabytes, (40 + 45 * lrn) * outputs * 1e-9))
    return rows


def conv_work() -> list[Work]:
    """Operands and result once; two operations for each product."""
    rows = []
    for name, channels, outputs, kernel, groups, size in (
        ("conv2", 96, 256, 5, 2, 27),
        ("conv4", 384, 384, 3, 2, 13),
        ("conv5", 384, 256, 3, 2, 13),
    ):
        pixels = 256 * size * size
        weights = outputs * channels // groups * kernel * kernel
        megabytes = (pixels * (channels + outputs) + weights) * 4e-6
        gigaflop = 2 * pixels * weights * 1e-9
        for math, products in (("FMA", 0), ("TF32", 1), ("split TF32", 3)):
            rows.append(Work(f"{name} forward, dgrad or wgrad, {math}", megabytes, gigaflop, products))
    return rows


def roofline_ms(work: Work, gpu: Gpu) -> float:
    """The longer of the time to move the bytes and the time to compute."""
    rate = gpu.tf32_flops / work.tensor_products if work.tensor_products else gpu.fp32_flops
    return 1e3 * max(work.megabytes * 1e6 / gpu.bytes_per_s, work.gigaflop * 1e9 / rate)


def compile_report(nvcc: str, source: Path, architecture: str) -> str:
    """What ptxas says about the kernels of one file."""
    include = [f"-I{ROOT / 'csrc'}"]
    torch_include = Path(torch.__file__).parent / "include"
    include += [f"-I{torch_include}", f"-I{torch_include / 'torch' / 'csrc' / 'api' / 'include'}"]
    pip_include = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "include"
    if pip_include.is_dir():
        include += ["-isystem", str(pip_include)]
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xptxas", "-v", *include]
        command += [f"-gencode=arch=compute_{architecture},code=sm_{architecture}", "-cubin", str(source)]
        result = subprocess.run([*command, "-o", f"{folder}/kernels.cubin"], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{source}: nvcc failed\n{result.stderr[-2000:]}")
    return result.stderr


def read_report(text: str, architecture: str) -> list[Kernel]:
    """The kernels in ptxas's report, by their readable names."""
    pattern = re.compile(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
        r"([^\n]*)",
        re.DOTALL,
    )
    found = pattern.findall(text)
    mangled = "\n".join(name for name, *_ in found)
    names = subprocess.run(["c++filt"], input=mangled, capture_output=True, text=True, check=True).stdout.splitlines()
    kernels = []
    for name, (_, stores, loads, registers, rest) in zip(names, found, strict=True):
        shared = re.search(r"(\d+) bytes smem", rest)
        kernels.append(
            Kernel(
                readable(name), architecture, int(registers), int(stores) + int(loads), int(shared[1]) if shared else 0
            )
        )
    return sorted(kernels, key=lambda kernel: kernel.name)


def readable(name: str) -> str:
    """``forward_walk<float, 4, 2, 4>`` from the full signature."""
    name = re.sub(r"caffe_compat::|lrn_cuda::|conv_cuda::|c10::|\(anonymous namespace\)::|^void ", "", name)
    return re.sub(r">\(.*$", ">", name).replace("> >", ">>").strip()


def make_document(kernels: list[Kernel], release: str) -> str:
    """The whole of docs/kernels.md."""
    lines = [
        "# CUDA kernels, as compiled",
        "",
        f"Written by `benchmarks/kernel_table.py` with nvcc {release}. **Computed, not measured**: no GPU was used.",
        "",
        "## Roofline of CaffeNet's calls, batch 256, float32",
        "",
        "The least time that the bytes (each tensor once) and the arithmetic allow at the data sheet's rates:",
        ", ".join(
            f"{gpu.name} {gpu.bytes_per_s / 1e12:.2f} TB/s, {gpu.fp32_flops / 1e12:g} TFLOP/s float32, "
            f"{gpu.tf32_flops / 1e12:g} TFLOP/s TF32"
            for gpu in GPUS
        )
        + ".",
        "",
        "| call | MB | GFLOP | FLOP per byte | " + " | ".join(f"{gpu.name}, ms, computed" for gpu in GPUS) + " |",
        "|---|---|---|---|" + "---|" * len(GPUS),
    ]
    for work in [*lrn_work(), *pool_work(), *conv_work()]:
        times = " | ".join(f"{roofline_ms(work, gpu):.3f}" for gpu in GPUS)
        intensity = work.gigaflop * 1e3 / work.megabytes
        lines.append(f"| {work.name} | {work.megabytes:.0f} | {work.gigaflop:.1f} | {intensity:.1f} | {times} |")
    lines += [
        "",
        "## What ptxas reports",
        "",
        "Occupancy is what registers, shared memory and blocks of 256 threads allow. The numbers in a name are its",
        "template arguments: `walk` elements an access, reach of the window, channels a step; `line` elements, reach;",
        "`Tile` rows and columns of the product.",
        "",
        "| kernel | sm | registers | spilled bytes | shared bytes | occupancy |",
        "|---|---|---|---|---|---|",
    ]
    for k in kernels:
        numbers = f"{k.architecture} | {k.registers} | {k.spill_bytes} | {k.shared_bytes} | {k.occupancy():.0%}"
        lines.append(f"| `{k.name}` | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default=shutil.which("nvcc"), help="default: the one on PATH")
    parser.add_argument("--architectures", default="80,90", help="compute capabilities, default 80,90")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "kernels.md")
    arguments = parser.parse_args()
    if arguments.nvcc is None:
        sys.exit("kernel_table.py: no nvcc on PATH; name one with --nvcc")
    version = subprocess.run([arguments.nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"V(\d+\.\d+\.\d+)", version)
    jobs = [(ROOT / "csrc" / source, sm) for sm in arguments.architectures.split(",") for source in SOURCES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = list(pool.map(lambda job: compile_report(arguments.nvcc, *job), jobs))
    kernels = [k for (_, sm), report in zip(jobs, reports, strict=True) for k in read_report(report, sm)]
    write_text(arguments.out, make_document(kernels, release[1] if release else "of unknown release"))
    spilling = [f"{kernel.name} (sm_{kernel.architecture})" for kernel in kernels if kernel.spill_bytes]
    print(f"{arguments.out}: {len(kernels)} kernels, {len(spilling)} with spills: {', '.join(spilling) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
