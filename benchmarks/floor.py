"""What the arithmetic of the definition takes at best: FLOPs counted from a net's shapes over the machine's rate.

Winograd's filtering, in our fast mode on the CPU and in cuDNN, needs fewer multiplications and may come below.
"""

import torch
from timing import median_ms

from caffe_compat import Net
from caffe_compat.net.flops import training_flops


def count_flops(net: Net) -> dict[str, int]:
    """FLOPs (2 for a multiply and add) of one training pass, by layer, where there are any."""
    flops = {step.layer.name: training_flops(step, net.blob_shapes_in_order) for step in net.steps}
    return {name: count for name, count in flops.items() if count}


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
