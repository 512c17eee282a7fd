import itertools
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.general_contrastive_loss import GeneralContrastiveLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

#: float64 sums in another order
TOLERANCE = 1e-12
DEFAULTS: dict[str, Any] = {
    "positive_margin": 0.0,
    "negative_margin": 1.0,
    "positive_weight": 1.0,
    "negative_weight": 1.0,
    "normalize_negative": None,
    "positive_outlier_thresh": 4.0,
    "max_negative_only": False,
    "max_positive_only": False,
    "positive_first": False,
    "positive_upper_bound": 1.0,
    "exp_negative_weight": False,
}


def defined(d: np.ndarray, labels: list[int], margin: float, **given: float) -> tuple[float, np.ndarray]:
    """Loss and gradient (N, C), distance by distance in the fork's order."""
    p = {**DEFAULTS, **given}
    n, classes = d.shape
    terms, slopes = np.zeros_like(d), np.zeros_like(d)
    largest, smallest = [0] * n, 0
    for i, j in itertools.product(range(n), range(classes)):
        if j == labels[i]:
            terms[i, j] = (
                min(p["positive_outlier_thresh"], max(0, d[i, j] - p["positive_margin"])) * p["positive_weight"]
            )
            smallest = i if terms[i, j] < terms[smallest, labels[smallest]] else smallest
        elif d[i, j] < margin:
            terms[i, j] = (np.exp(-d[i, j]) if p["exp_negative_weight"] else margin - d[i, j]) * p["negative_weight"]
            largest[i] = j if terms[i, j] > terms[i, largest[i]] else largest[i]
    total = 0.0
    for i, j in itertools.product(range(n), range(classes)):
        far = p["positive_first"] and d[i, labels[i]] > p["positive_upper_bound"]
        if j == labels[i]:
            left_out = p["max_positive_only"] and i != smallest
            terms[i, j] = 0 if left_out else terms[i, j]
            inside = p["positive_margin"] < d[i, j] < p["positive_outlier_thresh"] and not left_out
            slopes[i, j] = p["positive_weight"] if inside or far else 0
        else:
            left_out = far or (p["max_negative_only"] and j != largest[i])
            terms[i, j] = 0 if left_out else terms[i, j]
            if not left_out and d[i, j] < margin:
                slopes[i, j] = -p["negative_weight"] * (np.exp(-d[i, j]) if p["exp_negative_weight"] else 1)
                total -= slopes[i, j]
    if p["normalize_negative"] is not None and abs(total) / p["normalize_negative"] / n > p["positive_weight"]:
        others = np.arange(classes) != np.array(labels)[:, None]
        slopes[others] /= abs(total) / p["normalize_negative"] / n
    return np.abs(terms).sum() / n, slopes / n


@on_devices
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"positive_margin": 0.25, "negative_margin": 0.75, "positive_weight": 2, "negative_weight": 0.5},
        {"positive_margin": -1, "positive_outlier_thresh": 0.5, "max_positive_only": True},
        {"max_negative_only": True},
        {"max_negative_only": True, "exp_negative_weight": True, "negative_margin": 2},
        {"positive_first": True, "positive_upper_bound": 0.25, "max_positive_only": True},
        {"normalize_negative": 0.5, "exp_negative_weight": True},
        {"normalize_negative": 100, "positive_first": True},
    ],
    ids=str,
)
def test_equals_the_definition(device: str, given: dict[str, float]) -> None:
    fields = " ".join(f"{name}: {str(value).lower()}" for name, value in given.items())
    labels = [0, 2, 1, 0, 1]
    layer = make_layer(
        GeneralContrastiveLoss, f"general_contrastive_loss_param {{ {fields} }}", (5, 3), (5,), device=device
    )
    distances = noise(5, 3, device=device)
    (loss,) = run(layer, distances, tensor(labels, device).detach())
    (slopes,) = torch.autograd.grad(3 * loss, distances)
    expected, gradient = defined(
        distances.detach().cpu().numpy(), labels, given.get("negative_margin", DEFAULTS["negative_margin"]), **given
    )
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE)
    np.testing.assert_allclose(slopes.cpu().numpy(), 3 * gradient, rtol=TOLERANCE, atol=0)


@on_devices
def test_is_a_layer(device: str) -> None:
    layer = make_layer(GeneralContrastiveLoss, 'top: "loss" top: "means"', (4, 3), (4,), device=device)
    check_layer(layer, noise(4, 3, device=device), tensor([0, 2, 2, 1], device).detach())


def test_the_running_average_widens_the_margin() -> None:
    fields = "add_intra_mae: true negative_margin: 0.5 max_negative_margin: 0.03"
    layer = make_layer(
        GeneralContrastiveLoss,
        f'general_contrastive_loss_param {{ {fields} }} top: "loss" top: "means"',
        (1, 2),
        (1,),
    )
    distances, label = tensor([[2.0, 0.25]]), tensor([0.0]).detach()
    loss, means = run(layer, distances, label)
    assert (loss.item(), means.tolist()) == (2.25, [2, 0.25, pytest.approx(0.02)])
    loss, means = run(layer, distances, label)
    assert loss.item() == pytest.approx(2.27)  # the margin is 0.5 + 0.02
    assert means.tolist() == [2, pytest.approx(0.27), pytest.approx(0.03)]  # 0.0398 is above the most


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("square: true", ((2, 3), (2,)), "square is not computed by the fork"),
        ("", ((2, 3), (3,)), "expected the same first dimension"),
        ("", ((2, 3), (2, 2)), "a label for each of the batch"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(GeneralContrastiveLoss, f"general_contrastive_loss_param {{ {fields} }}", *shapes)
