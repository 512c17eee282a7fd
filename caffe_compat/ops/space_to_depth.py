"""The operator ``caffe_compat::space_to_depth``: blocks of pixels as channels.

A convolution with stride ``block`` over the input is one with stride 1 over the result, which a GPU computes in a
fraction of the time where the input has few channels.  N C H W in shape comments: batch, channels, height, width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension

HAS_KERNELS = extension.load() is not None

MULTIPLE = 8  # of the result's channels: whole 16-byte vectors for every dtype
MOST_CHANNELS = 1024  # of the result: a pixel of it has to fit a GPU's shared memory
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

Pair = Sequence[int]


def depth(channels: int, block: int) -> int:
    """Channels of the result: those of the input's blocks, rounded up to a multiple of 8."""
    return -(-channels * block * block // MULTIPLE) * MULTIPLE


def space_to_depth(
    input: Tensor, block: int, padding: Pair, out_size: Pair, *, dtype: torch.dtype | None = None
) -> Tensor:
    """(N, Q, H', W') channels_last of ``dtype``: each block of block x block pixels of the input as one pixel.

    Channel (c * block + dy) * block + dx at (y, x) is input[c, y * block + dy - padding_h, x * block + dx - padding_w];
    it is 0 outside the input and in the channels added until Q is a multiple of 8.  ``padding`` and
    ``out_size`` = (H', W') are (height, width).

    input (N, C, H, W) of any strides, float32, float16 or bfloat16, on the CPU also float64; ``dtype`` (None: the
    input's) is one of them.  ValueError for negative padding, a block or size below 1, another rank, or Q above 1024.
    Not differentiable.
    """
    if input.dim() != 4:
        raise ValueError(f"space_to_depth: input has {input.dim()} axes; expected 4")
    if block < 1 or min(padding) < 0 or min(out_size) < 1:
        raise ValueError(
            f"space_to_depth: block {block}, padding {tuple(padding)}, out_size {tuple(out_size)}; "
            "expected block and size of at least 1, padding of at least 0"
        )
    channels = depth(input.shape[1], block)
    if not 0 < channels <= MOST_CHANNELS:
        raise ValueError(
            f"space_to_depth: input has {input.shape[1]} channels, which make {channels} with block {block}; "
            f"expected 1 to {MOST_CHANNELS}"
        )
    arguments = (input, block, padding, out_size, dtype or input.dtype)
    if not HAS_KERNELS:
        return reference(*arguments)
    output: Tensor = torch.ops.caffe_compat.space_to_depth(*arguments)
    return output


@extension.cpu_kernel("space_to_depth")
def reference(input: Tensor, block: int, padding: Pair, out_size: Pair, dtype: torch.dtype) -> Tensor:
    """``space_to_depth`` in plain PyTorch: pad or crop to whole blocks, then permute."""
    n, c = input.shape[:2]
    after = [out_size[i] * block - padding[i] - input.shape[2 + i] for i in (0, 1)]  # below 0: cropped
    whole = functional.pad(input, (padding[1], after[1], padding[0], after[0]))
    blocks = whole.reshape(n, c, out_size[0], block, out_size[1], block).permute(0, 1, 3, 5, 2, 4)
    values = blocks.reshape(n, c * block * block, *out_size)
    values = functional.pad(values, (0, 0, 0, 0, 0, depth(c, block) - values.shape[1]))
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


@extension.fake_kernel("space_to_depth")
def _fake(input: Tensor, block: int, padding: Pair, out_size: Pair, dtype: torch.dtype) -> Tensor:
    shape = (input.shape[0], depth(input.shape[1], block), *out_size)
    return torch.empty(shape, dtype=dtype, device=input.device, memory_format=torch.channels_last)
