"""What the arithmetic of the definition takes at best: FLOPs counted from a net's shapes over the machine's rate.

Winograd's filtering, in our fast mode on the CPU and in cuDNN, needs fewer multiplications and may come below.
"""

from math import prod

import torch
from timing import median_ms

from caffe_compat import Net


def count_flops(net: Net) -> dict[str, int]:
    """FLOPs (2 for a multiply and add) of one training pass, by layer: convolutions and inner products only.

    Forward, weight gradient and input gradient take as many each; there is no input gradient at the net's input.
    """
    flops = {}
    sources = {index for step in net.steps if step.layer.is_source for index in step.tops}
    shapes = net.blob_shapes_in_order
    for step in net.steps:
        layer = step.layer
        if layer.type == "Convolution":
            depth = prod(layer.blob_shapes[0][1:])
            forward = sum(2 * prod(shapes[top]) * depth for top in step.tops)
        elif layer.type == "InnerProduct":
            forward = 2 * prod(shapes[step.tops[0]]) * layer.inputs
        else:
            continue
        flops[layer.name] = forward * (2 if step.bottoms[0] in sources else 3)
    return flops


def measure_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """What the machine does at best now: ``tflops`` of a large matrix product (on the CPU of a dense convolution, where
    that is faster: oneDNN's is by the definition), and ``copy_gb_s`` (read plus written)."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.randn((1 << 28) // 4, device=device)  # 256 MiB: beyond any cache
    target = torch.empty_like(source)
    calls = {"product": lambda: a @ b, "copy": lambda: target.copy_(source)}
    flops = {"product": 2 * size**3}
    if device.type == "cpu":
        images = torch.randn(16, 256, 28, 28).to(dtype, memory_format=torch.channels_last)
        filters = torch.randn(256, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
        calls["convolution"] = lambda: torch.conv2d(images, filters, padding=1)
        flops["convolution"] = 2 * images.numel() * filters[0].numel()
    ms = median_ms(calls, device, rounds=5)
    return {
        "tflops": max(count / ms[name] / 1e9 for name, count in flops.items()),
        "copy_gb_s": 2 * source.nbytes / ms["copy"] / 1e6,
    }
