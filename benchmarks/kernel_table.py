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
from main_loop import find_main_loop

from caffe_compat.atomic_file import write_text

ROOT = Path(__file__).resolve().parents[1]
# Heading, and the file below csrc/.
SOURCES = (
    ("LRN", "lrn/lrn_cuda.cu"),
    ("Max pooling and its chain with LRN", "pool/pool_cuda.cu"),
    ("Max pooling with LRN and bias, channels in parts", "pool/pool_parts_cuda.cu"),
    ("Bias and ReLU, channels in parts", "parts/parts_cuda.cu"),
    ("Blocks of pixels as channels", "space_to_depth/space_to_depth_cuda.cu"),
    ("float32 as two TF32 numbers", "tf32_split/tf32_split_cuda.cu"),
    ("Convolution, channels_last", "conv/nhwc/nhwc_cuda.cu"),
    ("Convolution, NCHW", "conv/conv_cuda.cu"),
)
THREADS = 256  # kThreads
GEMM_THREADS = 128  # kGemmThreads
# Rows and columns of a block's tile, by kernel, kind of product and template argument.
GATHER_TILES = {128: (128, 128), 96: (128, 96), 64: (256, 64), 48: (256, 48)}
TILES = {
    ("gather_gemm", "bf16"): GATHER_TILES,
    ("gather_gemm", "TF32"): GATHER_TILES,
    ("gather_gemm", "split"): {96: (128, 96), 64: (128, 64), 48: (128, 48)},
    ("weight_grad_gemm", "bf16"): {128: (128, 128), 96: (96, 128), 64: (64, 256)},
    ("weight_grad_gemm", "TF32"): {128: (128, 128), 96: (96, 192), 64: (64, 256)},
    ("weight_grad_gemm", "split"): {128: (128, 64), 96: (96, 128), 64: (64, 128)},
}
GEMM_NAME = re.compile(r"(gather_gemm|weight_grad_gemm)<NumberFormat<(\w+), (true|false)>, (\d+)>")
# Instructions for each tensor-core product in the main loop of these kernels, by what they multiply.
GOALS = {"bf16": 2.5, "TF32": 3.0, "split": 4.0}
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


def product_kind(match: re.Match[str]) -> str:
    """What a kernel of this name multiplies."""
    return "split" if match[3] == "true" else "TF32" if match[2] == "float" else "bf16"


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture."""

    name: str
    architecture: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    code: str  # the machine code, empty without cuobjdump

    def blocks(self) -> int:
        """How many can be resident on an SM."""
        threads = self.threads()
        # Registers are given out to warps in units of 256, so 8 a thread.
        by_registers = REGISTERS_PER_SM // (-(-self.registers // 8) * 8 * threads)
        by_shared = SHARED_PER_SM.get(self.architecture, 228 * 1024) // (self.shared_bytes + 1024)
        return min(by_registers, by_shared, THREADS_PER_SM // threads)

    def threads(self) -> int:
        return GEMM_THREADS if GEMM_NAME.match(self.name) else THREADS

    def occupancy(self) -> float:
        """Part of an SM's threads that can be resident."""
        return self.blocks() * self.threads() / THREADS_PER_SM

    def goal(self) -> float | None:
        """The most instructions for each tensor-core product, for the kernels that have such a goal."""
        match = GEMM_NAME.match(self.name)
        if match is None:
            return None
        return GOALS[product_kind(match)]

    def instructions_per_product(self) -> float | None:
        """Instructions of the main loop for each tensor-core product; None without any, or without cuobjdump."""
        iteration = find_main_loop(self.code)
        return None if iteration is None else iteration.per_product

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


SM, CLOCK_HZ = 132, 1.7e9  # an H100 or H200 at work
# Cycles in which a part of an SM does one mma.sync; assumed: 62 % of the data sheet's rate, which wgmma alone reaches.
MMA_CYCLES = 4 / 0.62


def fitting(sizes: tuple[int, ...], count: int) -> int:
    """The widest tile that computes the least beyond the last of ``count``: gather_columns, weight_grad_rows."""
    return min(sizes, key=lambda size: (-(-count // size) * size, -size))


def main_loop_rows(kernels: list[Kernel]) -> list[str]:
    """CaffeNet's grouped convolutions at batch 256: what the main loops of our channels_last kernels take."""
    by_name = {kernel.name: kernel for kernel in kernels if kernel.architecture == "90"}
    rows = []
    for name, channels, outputs, taps, size in (
        ("conv2", 48, 128, 25, 27),
        ("conv4", 192, 192, 9, 13),
        ("conv5", 192, 128, 9, 13),
    ):
        pixels = 256 * size * size
        for kind, number, depth, products in (
            ("split", "float, true", 8, 3),
            ("TF32", "float, false", 8, 1),
            ("bf16", "BFloat16, false", 16, 1),
        ):
            split = kind == "split"
            for work, columns, length in (("output", outputs, channels), ("input gradient", channels, outputs)):
                tile = fitting((96, 64, 48) if split else (128, 96, 64, 48), columns)
                padded = -(-columns // tile) * tile
                count = 2 * pixels * padded * length * taps / (16 * 8 * depth) * products
                rows.append(
                    main_loop_row(
                        f"{name} {work} {kind}", by_name[f"gather_gemm<NumberFormat<{number}>, {tile}>"], count
                    )
                )
            tile = fitting((128, 96, 64), outputs)
            across = TILES["weight_grad_gemm", kind][tile][1]
            padded = -(-outputs // tile) * tile * -(-channels * taps // across) * across
            count = 2 * pixels * padded / (16 * 8 * depth) * products
            kernel = by_name[f"weight_grad_gemm<NumberFormat<{number}>, {tile}>"]
            rows.append(main_loop_row(f"{name} weight gradient {kind}", kernel, count))
    return rows


def main_loop_row(name: str, kernel: Kernel, products: float) -> str:
    """Milliseconds to issue the instructions, and for the tensor cores alone."""
    each, seconds = kernel.instructions_per_product() or float("nan"), products / (4 * SM * CLOCK_HZ)
    tile = kernel.name.removesuffix(">").split(", ")[-1]
    times = f"{1e3 * seconds * each:.2f} | {1e3 * seconds * MMA_CYCLES:.2f}"
    return f"| {name} | {tile} | {products / 1e6:.1f} | {each:.2f} | {times} |"


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
    """Shared memory that a launch of gather_gemm or weight_grad_gemm asks for: four stages and a table."""
    match = GEMM_NAME.match(name)
    if match is None:
        return 0
    kind = product_kind(match)
    rows, columns = TILES[match[1], kind][int(match[4])]
    if match[1] == "gather_gemm":  # 64 bytes a row or column; split weights twice; 256 taps and 4 entries more
        return 4 * 64 * (rows + columns * (2 if kind == "split" else 1)) + 260 * 8
    # 32 pixels of a 16-bit type or 16 of float32, in groups of 8 chunks of 16 bytes; the windows of 256 and of a stage.
    pixels, in_chunk = (32, 8) if kind == "bf16" else (16, 4)
    chunks = (-(-width // in_chunk // 8) * 8 for width in (rows, columns))
    return 4 * sum(chunks) * 16 * pixels + (256 + pixels) * 8


def readable(name: str) -> str:
    """``lrn_forward_walk<float, 4, 2, 4>`` from the full signature."""
    name = re.sub(r"(caffe_compat|\w+_cuda|c10|\(anonymous namespace\))::|^void ", "", name)
    return re.sub(r">\(.*$", ">", name).replace("> >", ">>").strip()


def both(values: list[str]) -> str:
    """One value for each architecture, or the one that they share."""
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def product_cell(kernel: Kernel) -> str:
    """Instructions for each product, and the goal."""
    value = kernel.instructions_per_product()
    return "?" if value is None else f"{value:.2f} (goal {kernel.goal()})"


def kernel_row(kernels: list[Kernel]) -> str:
    """One kernel on all architectures."""
    cells = [
        both([str(k.registers) for k in kernels]),
        both([str(k.spill_bytes) for k in kernels]),
        both([str(k.shared_bytes) for k in kernels]),
        both([f"{k.occupancy():.0%}" for k in kernels]),
        both([f"{k.load_bits()}" if k.code else "?" for k in kernels]),
        *(both([str(k.count(name)) if k.code else "?" for k in kernels]) for name in ("HMMA", "LDGSTS", "LDSM")),
        both([product_cell(k) for k in kernels]) if kernels[0].goal() else "0",
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
        "of these instructions stand in the machine code. Instructions an MMA: of the main loop, for each HMMA in it,",
        "where goals are 2.5 in bf16, 3 in TF32 and 4 in split float32 (6.8, 9.5 and 7.1 on the first GPU run). A",
        "test (`tests/benchmarks/test_kernel_table.py`) compiles for sm_90 and fails where one exceeds its goal. Not",
        "counted is what is done now and then: some 45 instructions where a window's taps end and the next channels",
        "begin (every ninth step in conv4), and some 200 where a weight gradient works out the windows of its next 128",
        "pixels (every eighth step in float32, every fourth in 16-bit types). An empty cell is 0.",
        "",
        "These are `mma.sync` kernels, as sm_80 has; there is no path of `wgmma` and TMA. Fast mode does not run the",
        "groups here: it gives each to cuDNN as a dense convolution, whose kernels for sm_90 are, by their names,",
        "warp-specialised ones of warp groups (`wgmma`) already. Those take 1.51 ms for the nine bf16 products of",
        "conv2, 4 and 5 at batch 256 (TF32 3.61, measured on an H200), where 631 GFLOP at the 790 TFLOP/s (TF32 410)",
        "of its best products would be 0.80 (1.54): a path of ours, as good as the best product measured, would save",
        "at most 0.7 ms of a bf16 step of 4.0, and 2.1 of a TF32 step of 7.4; `mma.sync` at its full rate (the last",
        "table below: 1.12 and 2.24 ms) 0.4 and 1.4. A host twin would have to imitate TMA, swizzles and barriers for",
        "a kernel that no device here can run. The kernels here serve GPUs before sm_90 and layer-by-layer mode,",
        "where cuDNN with groups takes 1.5 to 1.8 times as long for float32 outputs and input gradients.",
        "",
        "The numbers in a name are its template arguments:",
        "",
        "- `lrn_*_walk`: elements of a load, reach of LRN's window (channels to each side), channels of a step;",
        "  `lrn_*_row`: elements of a load, reach.",
        "- `pool_*_nchw`: reach of the LRN in the same kernel, 0 for none; `pool_*_nhwc`: elements of a load, reach.",
        "  `PoolWindow<3, 2>`: kernel and stride known to the compiler; `<0, 0>`: any.",
        "- `TensorsInParts<T>`, `GradientsInParts<T>`: blobs whose channels are in parts; `Whole...`: in one.",
        "- `bias_relu_parts*`, `tf32_split_kernel`: elements of a load; `space_to_depth_kernel`: types in and out.",
        "- `implicit_gemm`: `GemmTile` has the rows and columns of a block's part of the result;",
        "  `TensorCoreAccumulators<..., true>` splits float32 into two TF32 numbers.",
        "- `gather_gemm`: columns of a tile of 128 or 256 rows; `weight_grad_gemm`: rows of a tile of 64, 128 or 256;",
        "  `NumberFormat<type, true>` splits float32 into two TF32 numbers.",
    ]
    for heading, kernels in sections.items():
        lines += ["", f"### {heading}", ""]
        heads = ("kernel", "registers", "spilled bytes", "shared bytes", "occupancy", "loads", "HMMA", "LDGSTS", "LDSM")
        lines += ["| " + " | ".join([*heads, "instructions an MMA"]) + " |", "|---" * (len(heads) + 1) + "|"]
        for name in sorted({kernel.name for kernel in kernels}):
            lines.append(kernel_row([kernel for kernel in kernels if kernel.name == name]))
        if "channels_last" in heading and "90" in architectures and all(kernel.code for kernel in kernels):
            lines += [
                "",
                "Main loops of CaffeNet's convolutions at batch 256, both groups, columns and rows beyond the last",
            ]
            lines += [
                f"included, on {SM} SMs of four parts at {CLOCK_HZ / 1e9:g} GHz: the time to issue their instructions,"
            ]
            lines += [f"one a cycle and part, and that of the tensor cores at {MMA_CYCLES:.1f} cycles an MMA.", ""]
            lines += ["| work | tile | million MMAs | instructions an MMA | issue, ms, computed | MMAs, ms, computed |"]
            lines += ["|---|---|---|---|---|---|", *main_loop_rows(kernels)]
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
