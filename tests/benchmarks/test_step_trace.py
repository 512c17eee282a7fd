"""CaffeNet's training step as CUDA runs it, seen without a GPU: no copy but those listed; its bytes and FLOPs."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_compat import extension
from caffe_compat.precision import use_precision

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BATCH = 4
#: what is copied in a step beyond 1 kB an image: pool5's top for fc6, which wants Caffe's order of channels, and its
#: gradient on the way back
POOL5 = BATCH * 256 * 6 * 6
needs_extension = pytest.mark.skipif(not extension.load(), reason="towers need the compiled operators")


@pytest.fixture(scope="module")
def traces() -> dict[str, list[Any]]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from bench_train import ROOT, load_net
        from step_trace import trace_step
    finally:
        sys.path.remove(str(BENCHMARKS))
    found = {}
    for precision in ("fp32", "tf32", "bf16"):
        net = load_net(ROOT / "prototxt/caffenet/caffenet_train_val.prototxt", BATCH)
        with use_precision(precision):
            found[precision] = trace_step(net, torch.bfloat16 if precision == "bf16" else torch.float32)
    return found


@needs_extension
@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("tf32", 4), ("bf16", 2)])
def test_nothing_is_copied_but_pool5_and_small_weights(precision: str, size: int, traces: dict[str, list[Any]]) -> None:
    from step_trace import CASTS, COPIES

    copies = [o for o in traces[precision] if o.name in COPIES]
    blobs = [o for o in copies if BATCH in {shape[0] for shape in o.shapes}]
    assert [o.written for o in blobs] == [POOL5 * size] * 2
    weights = [o for o in copies if o not in blobs]
    # Each gradient into the layout of its parameter: conv1 over its blocks, conv2 to conv5 once for each group.
    assert len(weights) == 2 + 2 + 1 + 2 + 2
    casts = [o for o in traces[precision] if o.name in CASTS and o.moved > 1 << 20]
    assert not casts


@needs_extension
def test_inner_products_round_nothing_and_pass_over_their_tops_once_each_way(traces: dict[str, list[Any]]) -> None:
    """bf16: the parameters' copies are there, gradients leave the products in float32; bias and ReLU cost no pass."""
    operations = traces["bf16"]
    calls = Counter(o.name for o in operations)
    assert calls["aten._addmm_activation.default"] == 2  # fc6, fc7
    assert calls["aten.addmm.default"] == 1  # fc8
    assert calls["aten.mm.dtype"] == 3
    sizes = {"fc6": 4096 * 9216, "fc7": 4096 * 4096, "fc8": 1000 * 4096}
    assert sorted(o.written for o in operations if o.name == "aten.mm.dtype") == sorted(4 * n for n in sizes.values())
    small = [o for o in operations if o.shapes and o.shapes[0][:2] == (BATCH, 4096)]
    passes = Counter(o.name.split(".")[1] for o in small if "mm" not in o.name)
    assert passes == {"native_dropout": 2, "bias_relu_parts_backward": 2}
    for name in ("aten.relu.default", "aten.threshold_backward.default", "aten.native_dropout_backward.default"):
        assert not calls[name]
    assert calls["aten.sum.dim_IntList"] <= 1  # fc8's bias


@needs_extension
def test_every_convolution_is_a_dense_one(traces: dict[str, list[Any]]) -> None:
    calls = Counter(o.name for o in traces["bf16"])
    assert calls["aten.convolution.default"] == 1 + 2 + 1 + 2 + 2
    assert calls["aten.convolution_backward.default"] == 2 * (2 + 1 + 2 + 2) + 1  # images get no gradient
    assert calls["caffe_compat.pool_parts.default"] == 3
    assert calls["caffe_compat.bias_relu_parts.default"] == 2
    assert calls["caffe_compat.tf32_split.default"] == 0


@needs_extension
def test_flops_and_bytes(traces: dict[str, list[Any]]) -> None:
    """2 FLOPs for each product of the definition; conv1 has 48 * 9 products in place of 3 * 121, zeros among them."""
    outputs = {"conv2": 256 * 27 * 27 * 48 * 25, "conv3": 384 * 169 * 256 * 9, "conv4": 384 * 169 * 192 * 9}
    outputs |= {"conv5": 256 * 169 * 192 * 9, "fc6": 9216 * 4096, "fc7": 4096 * 4096, "fc8": 4096 * 1000}
    conv1 = 96 * 55 * 55 * 48 * 9
    flops = sum(o.flops for o in traces["bf16"])
    assert flops == 2 * BATCH * (3 * sum(outputs.values()) + 2 * conv1)
    first = next(o for o in traces["bf16"] if "space_to_depth" in o.name)
    assert (first.read, first.written) == (BATCH * 3 * 227 * 227 * 4, BATCH * 48 * 57 * 57 * 2)


@needs_extension
def test_the_script_prints_each_precision() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "predict_step.py", "--batch", "2", "--precision", "bf16"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bf16, batch 2: computed, not measured" in done.stdout
    assert "aten.convolution_backward.default" in done.stdout
    assert "copies above 1 MB" in done.stdout
