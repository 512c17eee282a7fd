"""The lattice against CRF-RNN's own, and against the Gaussian that it stands for."""

import json
from pathlib import Path

import numpy as np
import torch

from caffe_compat.layers.shared.permutohedral import build_lattice
from tests.layers.harness import noise, on_devices

#: CRF-RNN sums in float32
TOLERANCE = 1e-6
MEASURED = json.loads((Path(__file__).parent.parent / "crf_rnn.json").read_text())["filter"]


@on_devices
def test_crf_rnn_s_numbers(device: str) -> None:
    # 15 points: the last four are filled up with one at 0, whose corners take part.
    lattice = build_lattice(torch.tensor(MEASURED["features"], device=device))
    assert lattice is not None
    values = torch.tensor(MEASURED["values"], device=device, requires_grad=True)
    top = lattice.filtered(values)
    for found, key in ((top, "filtered"), (torch.autograd.grad(top, values, values)[0], "reversed")):
        expected = np.array(MEASURED[key])
        error = np.abs(found.detach().cpu().numpy() - expected).max() / np.abs(expected).max()
        assert error <= TOLERANCE, key


def test_near_a_gaussian_of_unit_deviation() -> None:
    # A point in the middle of a dense grid, in two dimensions: the response over the distance.
    axis = torch.arange(-4, 4.01, 0.125)
    grid = torch.cartesian_prod(axis, axis)
    lattice = build_lattice(grid)
    assert lattice is not None
    values = torch.zeros(1, len(grid))
    values[0, (grid == 0).all(1)] = 1
    found = lattice.filtered(values)[0]
    expected = torch.exp(-grid.square().sum(1) / 2)
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.98


def test_gradient() -> None:
    lattice = build_lattice(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)))
    assert lattice is not None
    assert torch.autograd.gradcheck(lattice.filtered, noise(2, 7))


def test_points_too_far_apart_have_no_lattice() -> None:
    features = torch.tensor([[0.0] * 5, [1e6] * 5])
    features[1, ::2] *= -1
    assert build_lattice(features) is None
