"""Writes docs/kernels.md: what nvcc makes of each CUDA kernel, and the time that the arithmetic and the bytes allow.

    python benchmarks/kernel_table.py [--nvcc PATH] [--architectures 80,90] [--out docs/kernels.md]

Needs nvcc, no GPU: nothing here is measured.  Registers, spills and shared memory are ptxas's own report; loads and
tensor-core instructions are counted in the machine code where cuobjdump is found: on PATH, beside nvcc, or in the
Triton package that comes with PyTorch.
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
# Heading, and the file below csrc/.
SOURCES = (
    ("LRN", "lrn/lrn_cuda.cu"),
    ("Max pooling and its chain with LRN", "pool/pool_cuda.cu"),
    ("Convolution, channels_last", "conv/nhwc/nhwc_cuda.cu"),
    ("Convolution, NCHW", "conv/conv_cuda.cu"),
)
THREADS = 256  # kThreads
REGISTERS_PER_SM, THREADS_PER_SM = 65536, 2048
SHARED_PER_SM = {"80": 164 * 1024, "86": 100 * 1024, "89": 100 * 1024}  # newer data-centre GPUs: 228 KiB


@dataclass(frozen=True)
class Gpu:
    """Peak rates from NVIDIA's data sheets (SXM, dense)."""

    name: str
    bytes_per_s: float
    flops: dict[str, float]  # by kind of product


GPUS = (
    Gpu("A100", 2.04e12, {"float32": 19.5e12, "TF32": 156e12, "bf16": 312e12}),
    Gpu("H100", 3.35e12, {"float32": 67e12, "TF32": 495e12, "bf16": 990e12}),
)


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture."""

    name: str
    architecture: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    code: str  # the machine code, empty without cuobjdump

    def occupancy(self) -> float:
        """Part of an SM's threads that can be resident."""
        # Registers are given out to warps in units of 256, so 8 a thread.
        by_registers = REGISTERS_PER_SM // (-(-self.registers // 8) * 8 * THREADS)
        by_shared = SHARED_PER_SM.get(self.architecture, 228 * 1024) // (self.shared_bytes + 1024)
        return min(by_registers, by_shared, THREADS_PER_SM // THREADS) * THREADS / THREADS_PER_SM

    def load_bits(self) -> int:
        """Width of the widest load from global memory."""
        widths = [0]
        for modifiers in re.findall(r"\bLDG(?:STS)?\.([\w.]*)", self.code):
            parts = set(modifiers.split("."))
            narrow = 8 if parts & {"U8", "S8"} else 16 if parts & {"U16", "S16"} else 32
            widths.append(128 if "128" in parts else 64 if "64" in parts else narrow)
        return max(widths)

    def count(self, instruction: str) -> int:
        return len(re.findall(rf"\b{instruction}\b", self.code))


@dataclass(frozen=True)
class Work:
    """One operator call of CaffeNet at batch 256, with the least it must move and compute."""

    name: str
    outputs: int  # elements of the result
    megabytes: float
    gigaflop: float
    kind: str = "float32"  # of product
    products: int = 1  # for each multiplication of the definition


def lrn_work() -> list[Work]:
    """Float32; each tensor once.  About 25 operations an output forward, 45 backward."""
    rows = []
    for name, shape in (("norm1", (256, 96, 27, 27)), ("norm2", (256, 256, 13, 13))):
        count = torch.Size(shape).numel()
        rows.append(Work(f"LRN {name} forward", count, 2 * count * 4e-6, 25 * count * 1e-9))
        rows.append(Work(f"LRN {name} backward", count, 3 * count * 4e-6, 45 * count * 1e-9))
    return rows


def pool_work() -> list[Work]:
    """Bytes: input (or its gradient), output and one byte for its taps, with LRN also the pooled values.

    About 4 operations a tap forward (two comparisons, two selections); backward the 9 windows' shares of 4 pixels are
    about 40 an output.  LRN's as above.  By bytes and these operations all are bound by bytes; the instructions around
    them (addresses, comparisons) may well bound the float32 backward pass and the 16-bit kernels instead.
    """
    rows = []
    for name, channels, size, out_size, lrn in (
        ("ReLU, pool1, norm1", 96, 55, 27, True),
        ("ReLU, pool2, norm2", 256, 27, 13, True),
        ("ReLU, pool5", 256, 13, 6, False),
    ):
        inputs, outputs = 256 * channels * size**2, 256 * channels * out_size**2
        megabytes = (4 * inputs + (9 if lrn else 5) * outputs) * 1e-6
        rows.append(Work(f"{name} forward", outputs, megabytes, (36 + 25 * lrn) * outputs * 1e-9))
        rows.append(Work(f"{name} backward", outputs, megabytes, (40 + 45 * lrn) * outputs * 1e-9))
    return rows


def conv_work() -> list[Work]:
    """Operands and result once; two operations for each product.  The gradients move and compute as much."""
    rows = []
    for name, channels, outputs, kernel, groups, size in (
        ("conv2", 96, 256, 5, 2, 27),
        ("conv4", 384, 384, 3, 2, 13),
        ("conv5", 384, 256, 3, 2, 13),
    ):
        pixels = 256 * size * size
        weights = outputs * channels // groups * kernel * kernel
        elements = pixels * (channels + outputs) + weights
        gigaflop = 2 * pixels * weights * 1e-9
        for math, kind, products, size_of in (
            ("FMA", "float32", 1, 4),
            ("split TF32", "TF32", 3, 4),
            ("TF32", "TF32", 1, 4),
            ("bf16", "bf16", 1, 2),
        ):
            rows.append(Work(f"{name} {math}", pixels * outputs, elements * size_of * 1e-6, gigaflop, kind, products))
    return rows


def roofline_ms(work: Work, gpu: Gpu) -> float:
    """The longer of the time to move the bytes and the time to compute."""
    compute_s = work.gigaflop * 1e9 * work.products / gpu.flops[work.kind]
    return 1e3 * max(work.megabytes * 1e6 / gpu.bytes_per_s, compute_s)


def find_cuobjdump(nvcc: str) -> str | None:
    """On PATH, beside nvcc or in Triton; it finds nvdisasm beside itself."""
    folders = [Path(nvcc).resolve().parent]
    folders.append(Path(sysconfig.get_paths()["purelib"]) / "triton" / "backends" / "nvidia" / "bin")
    return shutil.which("cuobjdump") or shutil.which("cuobjdump", path=os.pathsep.join(map(str, folders)))


def machine_code(cuobjdump: str | None, cubin: str) -> dict[str, str]:
    """{mangled name: machine code}; empty without cuobjdump."""
    if cuobjdump is None:
        return {}
    environment = os.environ | {"PATH": f"{Path(cuobjdump).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    text = subprocess.run([cuobjdump, "-sass", cubin], capture_output=True, text=True, check=True, env=environment)
    names_and_code = re.split(r"\n\s*Function : (\S+)", text.stdout)
    return dict(zip(names_and_code[1::2], names_and_code[2::2], strict=True))


def compile_kernels(nvcc: str, cuobjdump: str | None, source: Path, architecture: str) -> list[Kernel]:
    """The kernels of one file, with what ptxas and cuobjdump say about them."""
    include = [f"-I{ROOT / 'csrc'}"]
    torch_include = Path(torch.__file__).parent / "include"
    include += [f"-I{torch_include}", f"-I{torch_include / 'torch' / 'csrc' / 'api' / 'include'}"]
    pip_include = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "include"
    if pip_include.is_dir():
        include += ["-isystem", str(pip_include)]
    with tempfile.TemporaryDirectory() as folder:
        cubin = f"{folder}/kernels.cubin"
        command = [nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xptxas", "-v", *include]
        command += [f"-gencode=arch=compute_{architecture},code=sm_{architecture}", "-cubin", str(source), "-o", cubin]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{source}: nvcc failed\n{result.stderr[-2000:]}")
        return read_report(result.stderr, architecture, machine_code(cuobjdump, cubin))


def read_report(text: str, architecture: str, code: dict[str, str]) -> list[Kernel]:
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
    for full_name, (symbol, stores, loads, registers, rest) in zip(names, found, strict=True):
        name, shared = readable(full_name), re.search(r"(\d+) bytes smem", rest)
        shared_bytes = int(shared[1]) if shared else dynamic_bytes(name)
        spilled = int(stores) + int(loads)
        kernels.append(Kernel(name, architecture, int(registers), spilled, shared_bytes, code.get(symbol, "")))
    return sorted(kernels, key=lambda kernel: kernel.name)


def dynamic_bytes(name: str) -> int:
    """Shared memory that a launch asks for: four stages, each of 64 bytes for every row and column of the tile."""
    match = re.match(r"(gather_gemm|weight_grad_gemm)<.*, (\d+)>", name)
    return 4 * 64 * (128 + int(match[2])) if match else 0


def readable(name: str) -> str:
    """``lrn_forward_walk<float, 4, 2, 4>`` from the full signature."""
    name = re.sub(r"(caffe_compat|\w+_cuda|c10|\(anonymous namespace\))::|^void ", "", name)
    return re.sub(r">\(.*$", ">", name).replace("> >", ">>").strip()


def both(values: list[str]) -> str:
    """One value for each architecture, or the one that they share."""
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def kernel_row(kernels: list[Kernel]) -> str:
    """One kernel on all architectures."""
    cells = [
        both([str(k.registers) for k in kernels]),
        both([str(k.spill_bytes) for k in kernels]),
        both([str(k.shared_bytes) for k in kernels]),
        both([f"{k.occupancy():.0%}" for k in kernels]),
        both([f"{k.load_bits()}" if k.code else "?" for k in kernels]),
        *(both([str(k.count(name)) if k.code else "?" for k in kernels]) for name in ("HMMA", "LDGSTS", "LDSM")),
    ]
    return f"| `{kernels[0].name}` | " + " | ".join("" if cell == "0" else cell for cell in cells) + " |"


def make_document(sections: dict[str, list[Kernel]], architectures: list[str], release: str) -> str:
    """The whole of docs/kernels.md."""
    rates = [
        f"{gpu.name} {gpu.bytes_per_s / 1e12:.2f} TB/s, "
        + ", ".join(f"{rate / 1e12:g} TFLOP/s {kind}" for kind, rate in gpu.flops.items())
        for gpu in GPUS
    ]
    lines = [
        "# CUDA kernels, as compiled",
        "",
        f"Written by `benchmarks/kernel_table.py` with nvcc {release}. **Computed, not measured**: no GPU was used.",
        "",
        "## Roofline of CaffeNet's calls, batch 256",
        "",
        "The least time of a call: the longer of moving its bytes (each tensor once) and of its arithmetic, at the",
        "data sheet's rates:",
        "; ".join(rates) + ".",
        "LRN and pooling are float32; a convolution's row is for its output and for either gradient, which moves and",
        "computes as much.",
        "",
        "| call | bytes an output | FLOP an output | FLOP a byte | "
        + " | ".join(f"{gpu.name}, ms, computed" for gpu in GPUS)
        + " |",
        "|---|---|---|---|" + "---|" * len(GPUS),
    ]
    for work in [*lrn_work(), *pool_work(), *conv_work()]:
        times = " | ".join(f"{roofline_ms(work, gpu):.3f}" for gpu in GPUS)
        each = f"{work.megabytes * 1e6 / work.outputs:.1f} | {work.gigaflop * 1e9 / work.outputs:.0f}"
        lines.append(f"| {work.name} | {each} | {work.gigaflop * 1e3 / work.megabytes:.1f} | {times} |")
    names = " / ".join(f"sm_{architecture}" for architecture in architectures)
    lines += [
        "",
        "## What the compiler made",
        "",
        f"Where a cell has two values they are for {names}. Occupancy: the share of an SM's threads that can be",
        "resident, by registers, shared memory and blocks of 256 threads. Loads: bits of the widest load from global",
        "memory. HMMA (tensor-core products), LDGSTS (asynchronous copies to shared memory), LDSM (ldmatrix): how many",
        "of these instructions stand in the machine code. An empty cell is 0.",
        "",
        "The numbers in a name are its template arguments:",
        "",
        "- `lrn_*_walk`: elements of a load, reach of LRN's window (channels to each side), channels of a step;",
        "  `lrn_*_row`: elements of a load, reach.",
        "- `pool_*_nchw`: reach of the LRN in the same kernel, 0 for none; `pool_*_nhwc`: elements of a load, reach.",
        "  `PoolWindow<3, 2>`: kernel and stride known to the compiler; `<0, 0>`: any.",
        "- `implicit_gemm`: `GemmTile` has the rows and columns of a block's part of the result;",
        "  `TensorCoreAccumulators<..., true>` splits float32 into two TF32 numbers.",
        "- `gather_gemm`: columns of a tile of 128 rows; `weight_grad_gemm`: rows of a tile of 128 columns;",
        "  `NumberFormat<type, true>` splits float32 into two TF32 numbers.",
    ]
    for heading, kernels in sections.items():
        lines += ["", f"### {heading}", ""]
        lines += ["| kernel | registers | spilled bytes | shared bytes | occupancy | loads | HMMA | LDGSTS | LDSM |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for name in sorted({kernel.name for kernel in kernels}):
            lines.append(kernel_row([kernel for kernel in kernels if kernel.name == name]))
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
    architectures = arguments.architectures.split(",")
    cuobjdump = find_cuobjdump(arguments.nvcc)
    if cuobjdump is None:
        print("kernel_table.py: no cuobjdump; the columns from the machine code stay empty", file=sys.stderr)
    jobs = [(ROOT / "csrc" / source, sm) for _, source in SOURCES for sm in architectures]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: compile_kernels(arguments.nvcc, cuobjdump, *job), jobs))
    sections: dict[str, list[Kernel]] = {heading: [] for heading, _ in SOURCES}
    for i, kernels in enumerate(results):
        sections[SOURCES[i // len(architectures)][0]] += kernels
    text = make_document(sections, architectures, release[1] if release else "of unknown release")
    write_text(arguments.out, text)
    kernels = [kernel for result in results for kernel in result]
    spilling = [f"{kernel.name} (sm_{kernel.architecture})" for kernel in kernels if kernel.spill_bytes]
    print(f"{arguments.out}: {len(kernels)} kernels, {len(spilling)} with spills: {', '.join(spilling) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
