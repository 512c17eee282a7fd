"""Gaussian filtering in many dimensions on the permutohedral lattice (Adams, Baek and Davis 2010), as CRF-RNN does it.

Each point is spread over the d + 1 corners of the lattice's simplex around it, the corners' values are blurred along
d + 1 directions, and each point reads its corners back.  P points of d features; M corners that any point touches.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

#: codes of corners are int64
MAX_CODE = 2**62
#: CRF-RNN keeps coordinates of corners in 16 bits
MAX_COORDINATE = 2**15 - 16


class Lattice(NamedTuple):
    """``corners`` (P, d + 1): numbers below M; ``shares`` (P, d + 1): how much of a point each of its corners gets;
    ``points``, ``points_shares`` (P (d + 1),) and ``starts`` (M,): the same from the corners' side, corner by corner;
    ``neighbours`` (d + 1, 2, M): the corners before and behind each along each direction, M where there is none."""

    corners: Tensor
    shares: Tensor
    points: Tensor
    points_shares: Tensor
    starts: Tensor
    neighbours: Tensor

    def filtered(self, values: Tensor) -> Tensor:
        """values (C, P) -> (C, P), not normalised; differentiable."""
        directions, count = self.neighbours.shape[0], self.neighbours.shape[2]
        spread = self.points_shares.to(values.dtype)
        rows = functional.embedding_bag(
            self.points, values.t().contiguous(), self.starts, mode="sum", per_sample_weights=spread
        )
        # A last row of zeros stands for the corners that do not exist.
        lattice = functional.pad(rows, (0, 0, 0, 1))
        for before, behind in self.neighbours.unbind(0):
            blurred = lattice[:count] + 0.5 * (lattice.index_select(0, before) + lattice.index_select(0, behind))
            lattice = functional.pad(blurred, (0, 0, 0, 1))
        shares = self.shares.to(values.dtype) / (1 + 2.0 ** -(directions - 1))
        return functional.embedding_bag(self.corners, lattice, mode="sum", per_sample_weights=shares).t()


def build_lattice(features: Tensor) -> Lattice | None:
    """features (P, d) float32, in units of the Gaussian's standard deviation; None where they span too much (or are
    no numbers).

    CRF-RNN works on four points at a time and fills up the last four with points at 0, whose corners take part in the
    blur; so does this.
    """
    points, dims = features.shape
    missing = -points % 4
    features = torch.cat([features, features.new_zeros(missing, dims)])
    position = _elevated(features)
    if not bool((position.abs() < MAX_COORDINATE).all()):
        return None
    remainder, rank, shares = _simplices(position)
    keys = _corner_keys(remainder, rank)
    numbers = _number_corners(keys)
    if numbers is None:
        return None
    corners, neighbours = numbers
    corners, shares = corners[:points], shares[:points]
    order = corners.flatten().argsort()
    counts = torch.bincount(corners.flatten(), minlength=neighbours.shape[2])
    starts = counts.cumsum(0) - counts
    return Lattice(corners, shares, order // (dims + 1), shares.flatten()[order], starts, neighbours)


def _elevated(features: Tensor) -> Tensor:
    """(P, d) -> (P, d + 1), in the plane of the lattice; in CRF-RNN's order of float32 operations."""
    dims = features.shape[1]
    directions = dims + 1
    deviation = torch.tensor(math.sqrt(2 / 3) * directions, dtype=torch.float32).item()
    scales = [torch.tensor(deviation / math.sqrt((i + 2) * (i + 1)), dtype=torch.float32).item() for i in range(dims)]
    total = torch.zeros_like(features[:, 0])
    elevated: list[Tensor] = []
    for j in range(dims, 0, -1):
        scaled = features[:, j - 1] * scales[j - 1]
        elevated.insert(0, total - j * scaled)
        total = total + scaled
    return torch.stack([total, *elevated], 1)


def _simplices(position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each point the simplex around it: its corner of remainder 0 and the rank of each coordinate, both as whole
    float32, and the shares of its corners; (P, d + 1) each."""
    directions = position.shape[1]
    dims = directions - 1
    inverse = torch.tensor(1 / directions, dtype=torch.float32).item()
    rounded = (position * inverse).round()
    remainder = rounded * directions
    gap = position - remainder
    # Of two coordinates the one that is farther from its rounded value comes first; of equal ones the later.
    before = (gap.unsqueeze(2) < gap.unsqueeze(1)).float()  # [p, i, j]: gap i < gap j
    upper = torch.ones(directions, directions, device=position.device).triu(1)
    rank = (before * upper).sum(2) + ((1 - before) * upper).sum(1)
    rank = rank + rounded.sum(1, keepdim=True)
    wrap = directions * ((rank < 0).float() - (rank >= directions).float())
    rank, remainder = rank + wrap, remainder + wrap
    part = (position - remainder) * inverse
    place = dims - rank.long()
    shares = part.new_zeros(len(part), directions + 1).scatter_add(1, place, part).scatter_add(1, place + 1, -part)
    first = shares[:, :1] + (1 + shares[:, -1:])
    return remainder, rank, torch.cat([first, shares[:, 1:-1]], 1)


def _corner_keys(remainder: Tensor, rank: Tensor) -> Tensor:
    """Whole coordinates (P, d + 1 corners, d) int64; the last coordinate follows from the others."""
    directions = remainder.shape[1]
    corner = torch.arange(directions, device=rank.device).reshape(1, -1, 1)
    canonical = torch.where(rank.long().unsqueeze(1) > directions - 1 - corner, corner - directions, corner)
    return (remainder.long().unsqueeze(1) + canonical)[:, :, :-1]


def _number_corners(keys: Tensor) -> tuple[Tensor, Tensor] | None:
    """Numbers for equal keys, (P, d + 1), and the neighbours of each number, (d + 1, 2, M)."""
    dims = keys.shape[2]
    directions = dims + 1
    low, high = keys.flatten(0, 1).amin(0), keys.flatten(0, 1).amax(0)
    sides = (high - low + 2 * directions + 1).tolist()  # room for neighbours on both sides
    if math.prod(sides) > MAX_CODE:
        return None
    steps = torch.tensor([math.prod(sides[k + 1 :]) for k in range(dims)], device=keys.device)
    codes = ((keys - low + directions) * steps).sum(2)
    known, corners = torch.unique(codes, return_inverse=True)
    # Along direction j one coordinate goes d forth and all others 1 back; the last one is not in the key.
    jumps = torch.cat([directions * steps - steps.sum(), -steps.sum().unsqueeze(0)])
    wanted = known + torch.stack([jumps, -jumps], 1).unsqueeze(2)
    found = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    return corners, torch.where(known[found] == wanted, found, len(known))
