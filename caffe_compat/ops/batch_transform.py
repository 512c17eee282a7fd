"""The operator ``caffe_compat::batch_transform``: crop, mirror, mean and scale of a uint8 batch."""

import torch
from torch import Tensor

from caffe_compat import extension

HAS_KERNELS = extension.load() is not None


def batch_transform(
    images: Tensor, windows: Tensor, mean: Tensor | None = None, scale: float = 1.0, size: tuple[int, int] = (0, 0)
) -> Tensor:
    """``(image - mean) * scale`` over a window of each image, mirrored where asked: float32 (N, C, h, w).

    ``images`` uint8 (N, C, H, W); ``windows`` int32 (N, 3) of top, left, mirror; ``mean`` float32
    (C) or (C, H, W), taken at the window's place; ``size`` (h, w) of the windows.  On CUDA one
    kernel; on the CPU threads; both give the same bits.  Windows must lie inside the images
    (the CPU raises ValueError; the GPU, which cannot raise without waiting, moves them inside).
    """
    if not HAS_KERNELS:
        return reference(images, windows, mean, scale, size)
    result: Tensor = torch.ops.caffe_compat.batch_transform(images, windows, mean, scale, *size)
    return result


def reference(images: Tensor, windows: Tensor, mean: Tensor | None, scale: float, size: tuple[int, int]) -> Tensor:
    """The same in plain PyTorch, image by image."""
    out = []
    for image, (top, left, mirror) in zip(images, windows.tolist(), strict=True):
        place = (slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
        values = image[place].float()
        if mean is not None:
            values = values - (mean[place] if mean.dim() == 3 else mean[:, None, None])
        values = values * torch.tensor(scale, dtype=torch.float32, device=images.device)
        out.append(values.flip(2) if mirror else values)
    return torch.stack(out) if out else images.new_empty((0, images.shape[1], *size), dtype=torch.float32)


@extension.fake_kernel("batch_transform")
def _fake(images: Tensor, windows: Tensor, mean: Tensor | None, scale: float, *size: int) -> Tensor:
    return images.new_empty((images.shape[0], images.shape[1], *size), dtype=torch.float32)
