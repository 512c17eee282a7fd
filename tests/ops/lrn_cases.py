"""LRN cases that the CPU operator, the CUDA operator and the host-run CUDA kernels are all tested on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LrnCase:
    shape: tuple[int, int, int, int]  # (N, C, H, W)
    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    k: float = 1.0
    norm_region: str = "ACROSS_CHANNELS"

    def window(self) -> tuple[int, float, float, float]:
        return self.local_size, self.alpha, self.beta, self.k


LRN_CASES = [
    LrnCase((2, 8, 5, 7)),
    LrnCase((1, 1, 3, 4)),  # one channel
    LrnCase((2, 3, 4, 5), local_size=9),  # fewer channels than the window
    LrnCase((2, 6, 3, 3), local_size=1),
    LrnCase((2, 6, 3, 3), local_size=3, beta=0.5),
    LrnCase((2, 6, 3, 3), beta=1.0, k=2.0),
    LrnCase((2, 6, 3, 3), beta=0.6),  # no square roots for this one
    LrnCase((1, 16, 13, 13), alpha=1e-4),  # odd plane: no aligned 16-byte access
    LrnCase((1, 5, 16, 16)),  # aligned, more than one tile
    LrnCase((3, 20, 1, 1)),
    LrnCase((1, 75, 3, 3)),  # several walks of many steps each
    LrnCase((1, 53, 2, 4), local_size=3),
    LrnCase((0, 4, 3, 3)),  # no images
    LrnCase((1, 40, 2, 2), local_size=15, alpha=3.0),
    LrnCase((2, 3, 6, 7), local_size=3, norm_region="WITHIN_CHANNEL"),
    LrnCase((1, 4, 9, 8), k=7.0, norm_region="WITHIN_CHANNEL"),  # k is not used
    LrnCase((1, 2, 2, 3), local_size=11, norm_region="WITHIN_CHANNEL"),  # window larger than the plane
    LrnCase((1, 1, 40, 35), local_size=7, beta=0.6, norm_region="WITHIN_CHANNEL"),
    LrnCase((0, 2, 3, 3), norm_region="WITHIN_CHANNEL"),
]
