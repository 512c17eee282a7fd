"""What nvcc may round as it likes in LRN's kernels and in pooling's that hold LRN: nothing.

A plain product in a sum is fused with it or not by how often nvcc finds it used, so that two kernels with one source
differ in the last bit; PTX has ``mul.f32`` for it, and ``mul.rn.f32`` for a product that stays one.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
KERNELS = {"lrn_forward_walk", "lrn_backward_walk", "lrn_forward_row", "lrn_backward_row"}
KERNELS |= {f"pool_{way}_{layout}" for way in ("forward", "backward") for layout in ("nchw", "nhwc")}
SOURCE = """
#include "pool/pool_kernels.cuh"

namespace caffe_compat {
using S = const LrnShape&;
using P = const LrnParams&;
using Z = const PoolSizes&;
using Taps = uint8_t*;
template void lrn_forward_cuda<float>(const float*, float*, S, P, cudaStream_t, int64_t);
template void lrn_backward_cuda<float>(const float*, const float*, float*, S, P, cudaStream_t, int64_t);
template void relu_pool_lrn_cuda<float>(const float*, float*, Taps, float*, Z, bool, P, cudaStream_t);
template void relu_pool_lrn_backward_cuda<float>(const float*, const float*, const uint8_t*, float*, float*, Z, P,
                                                 cudaStream_t);
}  // namespace caffe_compat
"""


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_every_product_is_rounded_as_written(tmp_path: Path) -> None:
    source, ptx = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    source.write_text(SOURCE)
    include = [f"-I{ROOT / 'csrc'}", f"-I{Path(torch.__file__).parent / 'include'}"]
    command = [str(NVCC), "-std=c++20", "-O3", "--expt-relaxed-constexpr", "-arch=compute_80", *include]
    result = subprocess.run([*command, "-ptx", str(source), "-o", str(ptx)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    seen = set()
    for name, code in re.findall(r"\.entry (\w+)\((.*?)\n\}", ptx.read_text(), re.DOTALL):
        kernels = [kernel for kernel in KERNELS if f"{len(kernel)}{kernel}" in name]
        seen.update(kernels)
        if kernels:  # the tile kernels call pow, whose own code is nvcc's
            assert re.findall(r"\bmul\.f32.*", code) == [], name
    assert seen == KERNELS
