import math

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.l1_loss import L1Loss
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor

SHAPE = (2, 3, 2, 2)
FORMS = [
    "",
    "plateau: 0.5",
    "normalize_by_num_entries: true",
    "l2_per_location: true",
    "l2_per_location: true l2_prescale_by_channels: true epsilon: 0.5",
    "l2_per_location: true plateau: 1.5 normalize_by_num_entries: true",
]


def loss(values: list[list[float]], fields: str) -> float:
    """The definition for N = 1, over places of their channels; NaN counts as nothing."""
    channels = len(values[0])
    epsilon = 0.5 if "epsilon" in fields else 0.01
    plateau = 1.5 if "1.5" in fields else 0.5 if "plateau" in fields else 0.0
    total = 0.0
    for place in values:
        known = [x for x in place if not math.isnan(x)]
        if "l2_per" in fields:
            squares = sum(x * x for x in known) / (channels if "prescale" in fields else 1)
            total += math.sqrt((squares if squares >= plateau**2 else 0.0) + epsilon)
        else:
            total += sum(abs(x) for x in known if abs(x) >= plateau)
    entries = sum(not math.isnan(x) for place in values for x in place) / channels
    return total / (entries if "entries" in fields else 1)


@on_devices
@pytest.mark.parametrize("fields", FORMS)
def test_layer(device: str, fields: str) -> None:
    layer = make_layer(L1Loss, f"l1_loss_param {{ {fields} }}", SHAPE, SHAPE, device=device)
    check_layer(layer, noise(*SHAPE, device=device), noise(*SHAPE, device=device, seed=1))


@pytest.mark.parametrize("fields", FORMS)
def test_values(fields: str) -> None:
    places = [[0.3, -2.0], [math.nan, 1.0], [0.2, 0.1]]
    bottom = tensor([[[[place[c] for place in places]] for c in (0, 1)]])
    layer = make_layer(L1Loss, f"l1_loss_param {{ {fields} }}", (1, 2, 1, 3))
    assert run(layer, bottom)[0].item() == pytest.approx(loss(places, fields))
    assert not torch.isnan(torch.tensor(gradient(layer, bottom))).any()


def test_over_the_batch() -> None:
    layer = make_layer(L1Loss, "", SHAPE, SHAPE)
    a, b = noise(*SHAPE), noise(*SHAPE, seed=1)
    torch.testing.assert_close(run(layer, a, b)[0], (a - b).abs().sum() / 2)


def test_the_gradient_at_zero_is_that_of_a_negative_difference() -> None:
    layer = make_layer(L1Loss, "", (1, 1, 1, 3))
    assert gradient(layer, tensor([[[[-1.0, 0.0, 2.0]]]])) == [-1, -1, 1]


def test_refusals() -> None:
    with pytest.raises(NetError, match=r"expected the same \(N, C, ...\)"):
        make_layer(L1Loss, "", SHAPE, (2, 3, 2, 1))
