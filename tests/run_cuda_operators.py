"""Run every CUDA operator once on small, odd sizes, for compute-sanitizer; checks nothing itself but that all finish.

    compute-sanitizer --tool memcheck python tests/run_cuda_operators.py
    compute-sanitizer --tool racecheck python tests/run_cuda_operators.py --few

``--few``: two sizes and two dtypes, for tools that take a hundred times longer.
Sizes with tails, one channel, windows over edges, several groups, no images; all dtypes, both layouts, both directions.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from caffe_compat import extension
from caffe_compat.ops import ConvWindow, batch_transform, conv, lrn, pool, space_to_depth
from caffe_compat.ops.conv_choice import use_path
from caffe_compat.ops.linear_chain import linear_chain
from caffe_compat.ops.parts import bias_relu_parts, bias_relu_parts_backward
from caffe_compat.ops.pool_parts import pool_parts, pool_parts_backward
from caffe_compat.ops.tf32_split import FIRST, SECOND, tf32_split
from caffe_compat.solver.rules import RULES

SHAPES = [(2, 8, 5, 7), (1, 1, 3, 4), (1, 6, 13, 13), (3, 20, 1, 1), (0, 4, 5, 5)]
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float16]
LAYOUTS = (torch.contiguous_format, torch.channels_last)
#: input channels, weight, stride, padding, dilation, groups
CONVOLUTIONS = (
    (6, (4, 6, 3, 3), 1, 1, 1, 1),
    (6, (8, 3, 5, 5), 2, 2, 1, 2),
    (6, (6, 1, 3, 2), 1, 2, 2, 6),
    (70, (66, 35, 3, 3), 1, 1, 1, 2),
    (16, (32, 8, 3, 3), 2, 1, 1, 2),  # whole 16-byte accesses: the channels_last kernels
    (40, (72, 40, 2, 3), 1, 1, 2, 1),
)
COUNTS = (5000, 1, 0, 257, 4096, 3)


def inputs(channels: int | None = None) -> Iterator[Tensor]:
    """Leaves of all shapes, dtypes and layouts; with ``channels`` in place of the shape's own."""
    for (n, c, h, w), dtype, layout in itertools.product(SHAPES, DTYPES, LAYOUTS):
        x = torch.randn(n, channels or c, h, w, device="cuda").to(dtype).contiguous(memory_format=layout)
        yield x.requires_grad_()


def backward(y: Tensor) -> None:
    """With a gradient of another layout than the output's, now and then."""
    y.backward(torch.randn_like(y, memory_format=torch.contiguous_format))


def run_lrn() -> None:
    for x in inputs():
        for size, region in ((5, "ACROSS_CHANNELS"), (9, "ACROSS_CHANNELS"), (3, "WITHIN_CHANNEL")):
            backward(lrn(x, size, 1e-2, norm_region=region))


def run_conv() -> None:
    for channels, weight_shape, stride, padding, dilation, groups in CONVOLUTIONS:
        for x in inputs(channels):
            weight = torch.randn(weight_shape, device="cuda", dtype=torch.float32).to(x.dtype).requires_grad_()
            bias = torch.randn(weight_shape[0], device="cuda").to(x.dtype).requires_grad_()
            window = ConvWindow.per_axis(2, stride=stride, padding=padding, dilation=dilation, groups=groups)
            sizes = window.output_size(x.shape, weight_shape)
            for path, relu in itertools.product(("ours_nchw", "ours_nhwc"), (False, True) if min(sizes) > 0 else ()):
                with use_path(path):
                    backward(conv(x, weight, bias, **window.keywords(), relu=relu))


def run_pool() -> None:
    if not extension.has_cuda():
        print("max_pool: no CUDA kernel in this build")
        return
    for x in inputs():
        out_size = [-(-max(size - 3, 0) // 2) + 1 for size in x.shape[2:]]
        for relu in (False, True):
            backward(pool.max_pool(x, (3, 3), (2, 2), (0, 0), out_size, relu=relu))
        backward(pool.relu_pool_lrn(x, (3, 3), (2, 2), (0, 0), out_size))


def run_parts() -> None:
    #: channels, parts of the input, parts of the output
    for channels, parts, groups in ((64, 1, 2), (64, 2, 1), (24, 2, 2), (9, 1, 3), (600, 2, 4)):
        for x in inputs(channels):
            if x.dtype == torch.float64:
                continue
            bias = torch.randn(channels, device="cuda")
            output = bias_relu_parts(x.detach().chunk(parts, 1), bias, groups=groups)
            bias_relu_parts_backward([x.detach()], output, groups=parts, scale=2.0)
            size = [-(-max(axis - 3, 0) // 2) + 1 for axis in x.shape[2:]]
            window: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0)}
            for local_size in (0, 5):
                output, pooled, tap = pool_parts(
                    x.detach().chunk(parts, 1), bias, **window, out_size=size, local_size=local_size, groups=groups
                )
                pool_parts_backward(output, pooled, tap, x.shape[2:], **window, local_size=local_size, groups=parts)


def run_space_to_depth() -> None:
    for x in inputs():
        for dtype in (torch.float32, torch.bfloat16) if x.dtype != torch.float64 else ():
            size = [-(-axis // 3) + 1 for axis in x.shape[2:]]
            space_to_depth(x.detach(), 3, (1, 2), size, dtype=dtype)


def run_tf32_split() -> None:
    for x in inputs():
        if x.dtype != torch.float32:
            continue
        for order, axis in itertools.product((FIRST, SECOND), (0, 1)):
            pieces = {1, x.shape[axis]} if x.shape[axis] else {1}
            for groups in pieces:
                tf32_split(x.detach(), order, axis, groups)


def run_batch_transform() -> None:
    images = torch.randint(0, 256, (3, 3, 11, 9), dtype=torch.uint8, device="cuda")
    windows = torch.tensor([[0, 0, 0], [4, 1, 1], [2, 2, 0]], dtype=torch.int32, device="cuda")
    for mean in (None, torch.randn(3, device="cuda"), torch.randn(3, 11, 9, device="cuda")):
        batch_transform(images, windows, mean, 0.5, (7, 7))


def run_linear_chain() -> None:
    for dtype, relu, dropout in itertools.product((torch.float32, torch.bfloat16), (False, True), (0.0, 0.5)):
        x, weight, bias = (torch.randn(*size, device="cuda", requires_grad=True) for size in ((5, 40), (24, 40), (24,)))
        backward(linear_chain(x, weight, bias, dtype=dtype, relu=relu, dropout=dropout))


def run_solver_updates() -> None:
    for rule, dtype, keep in itertools.product(RULES.values(), (torch.float32, torch.float64), (False, True)):
        # From one array, so that most tensors start where a 16-byte access may not.
        parts = torch.randn(sum(COUNTS), device="cuda", dtype=dtype).split(list(COUNTS))
        params = [torch.nn.Parameter(part) for part in parts]
        optimizer = rule(params, lr=0.1, weight_decay=0.01, clip_gradients=1.0)
        optimizer.keep_update = keep
        # Of every second one; the third begins where two bfloat16 numbers at once may not be written.
        copies = torch.empty(sum(COUNTS) + 1, device="cuda", dtype=torch.bfloat16)[1:].split(list(COUNTS))
        optimizer.copies = dict(list(zip(params, copies, strict=True))[::2])
        for _ in range(2):
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step()


def main() -> None:
    if "--few" in sys.argv[1:]:
        del SHAPES[2:], DTYPES[2:]
    start = time.perf_counter()
    # What has not run under a sanitizer on a GPU yet comes first, the convolutions, which take longest, last: what is
    # cut off has run the others.
    new = (run_linear_chain, run_solver_updates, run_parts, run_space_to_depth, run_tf32_split, run_lrn)
    for run in (*new, run_pool, run_batch_transform, run_conv):
        run()
        torch.cuda.synchronize()
        print(f"{run.__name__} done after {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
