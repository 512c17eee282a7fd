"""Cases that the CPU operator, the CUDA operator and the host-run CUDA kernel of batch_transform are all tested on."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchTransformCase:
    images: tuple[int, int, int, int]  # (N, C, H, W)
    size: tuple[int, int]  # (h, w) of the windows
    mean: str = "none"
    scale: float = 0.017

    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """uint8 images, int32 windows (corners and places between, mirrored or not) and the mean."""
        generator = torch.Generator().manual_seed(0)
        count, channels, rows, columns = self.images
        images = torch.randint(0, 256, self.images, dtype=torch.uint8, generator=generator)
        windows = torch.zeros((count, 3), dtype=torch.int32)
        for axis, spare in enumerate((rows - self.size[0], columns - self.size[1], 1)):
            windows[:, axis] = torch.randint(0, spare + 1, (count,), generator=generator)
            windows[1:2, axis] = spare
        windows[:1] = 0
        shape = {"none": (0,), "channel": (channels,), "image": self.images[1:]}[self.mean]
        mean = torch.rand(shape, generator=generator) * 255
        return images, windows, mean if self.mean != "none" else None


BATCH_TRANSFORM_CASES = [
    *(BatchTransformCase((5, 3, 10, 13), (7, 9), mean) for mean in ("none", "channel", "image")),
    BatchTransformCase((3, 3, 40, 44), (37, 33), "image"),  # more than one block, images not at 16-byte borders
    BatchTransformCase((3, 3, 20, 24), (16, 20), "image"),  # all at 16-byte borders
    BatchTransformCase((4, 1, 6, 5), (6, 5), "channel", 1.0),  # the whole image
    BatchTransformCase((7, 1, 3, 3), (1, 1), "image"),  # four images between two borders
    BatchTransformCase((2, 5, 4, 9), (3, 2)),
    BatchTransformCase((0, 3, 8, 8), (4, 4), "image"),  # no images
]
