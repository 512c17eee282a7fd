"""What the convolution kernels' machine code may cost, counted without a GPU."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

LOOP = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0020*/                   LDGSTS.E.BYPASS.128 [R9], desc[UR8][R4.64], P0 ;
        /*0030*/               @P1 BRA 0x70 ;
        /*0040*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0050*/              @!P2 BRA 0x40 ;
        /*0060*/                   STS.64 [R19+0xc000], R16 ;
        /*0070*/                   HMMA.1688.F32.TF32 R68, R52, R26, R68 ;
        /*0080*/                   NOP ;
        /*0090*/                   FADD R2, R2, R3 ;
        /*00a0*/                   HMMA.1688.F32.TF32 R72, R52, R28, R72 ;
        /*00b0*/              @!P0 BRA 0x10 ;
        /*00c0*/                   EXIT ;
"""

# All tiles of the kernels that have a goal.
SOURCE = """
#include "common/async_copy.cuh"
#include "conv/nhwc/gather_gemm.cuh"
#include "conv/nhwc/weight_grad.cuh"
namespace caffe_compat::nhwc_cuda {
#define GATHER(F, tile) template __global__ void gather_gemm<F, tile>(GatherArguments<F::Element>);
#define WEIGHT_GRAD(F, tile) \\
  template __global__ void weight_grad_gemm<F, tile>(WeightGradArguments<F::Element>);
#define ALL(F) GATHER(F, 96) GATHER(F, 64) GATHER(F, 48) WEIGHT_GRAD(F, 128) WEIGHT_GRAD(F, 96) WEIGHT_GRAD(F, 64)
using Split = NumberFormat<float, true>;
using Plain = NumberFormat<float>;
using Brain = NumberFormat<c10::BFloat16>;
ALL(Split) ALL(Plain) ALL(Brain) GATHER(Plain, 128) GATHER(Brain, 128)
}
"""


@pytest.fixture(scope="module")
def kernel_table() -> ModuleType:
    """The script as a module; its neighbours are found as when it runs."""
    spec = importlib.util.spec_from_file_location("kernel_table", BENCHMARKS / "kernel_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_an_iteration_leaves_out_what_is_rarely_done(kernel_table: ModuleType) -> None:
    iteration = kernel_table.find_main_loop(LOOP)
    assert iteration.names == ("BAR", "LDGSTS", "BRA", "HMMA", "FADD", "HMMA", "BRA")
    assert iteration.per_product == 3.5
    assert kernel_table.find_main_loop("") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_products_take_few_instructions(kernel_table: ModuleType, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    cuobjdump = kernel_table.find_cuobjdump(nvcc)
    if cuobjdump is None:
        pytest.skip("needs cuobjdump")
    source = tmp_path / "tiles.cu"
    source.write_text(SOURCE)
    kernels = kernel_table.compile_kernels(nvcc, cuobjdump, source, "90")
    assert len(kernels) == 20
    for kernel in kernels:
        assert kernel.instructions_per_product() <= kernel.goal(), kernel.name
        assert kernel.spill_bytes == 0, kernel.name
        assert kernel.blocks() >= 2, kernel.name
