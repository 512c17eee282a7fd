"""Weights whose rows are kept at length 1 (NormFace)."""

from torch import Tensor

# NormFace adds this to a row's sum of squares on the CPU, and less or nothing on CUDA.
EPS = 1e-6


def make_unit_rows(weight: Tensor) -> Tensor:
    """Divide each row of a (N, K) weight by sqrt(its sum of squares + 1e-6), in place; returns the weight."""
    return weight.div_((weight.square().sum(1, keepdim=True) + EPS).sqrt())
