"""Linear centred kernel alignment: how alike two layers respond to the same images.

Kornblith, Norouzi, Lee and Hinton, *Similarity of Neural Network Representations Revisited*, ICML 2019: with X (N, p)
and Y (N, q), their columns centred, CKA = |Y'X|^2 / (|X'X| |Y'Y|) in Frobenius norms.  The same from the N x N Gram
matrices K = XX' and L = YY', which is less work where there are fewer images than features: <K, L> / (|K| |L|).
"""

import torch
from torch import Tensor

#: features that are multiplied at a time, so that float64 copies stay small
COLUMNS = 1 << 14


def centred_gram(features: Tensor) -> Tensor:
    """(N, N) float64 Gram matrix of ``features`` (N, ...), each feature less its mean over the images."""
    flat = features.flatten(1)
    gram = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat.device)
    for columns in flat.split(COLUMNS, dim=1):
        part = columns.double()
        part = part - part.mean(dim=0)
        gram += part @ part.T
    return gram


def alignment(one: Tensor, other: Tensor) -> float:
    """Linear CKA, from 0 to 1, of the layers with these centred Gram matrices of the same images.

    NaN where a layer gives all images the same answer.
    """
    lengths = one.norm() * other.norm()
    return float((one * other).sum() / lengths) if lengths > 0 else float("nan")


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA of two layers' responses (N, ...) to the same N images; see ``alignment``."""
    return alignment(centred_gram(one), centred_gram(other))
