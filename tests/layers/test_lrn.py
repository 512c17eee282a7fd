"""LRN against its formula, summed value by value.

top = bottom / scale^beta; scale = k + alpha / n * (sum of squares over the window), n its full size, also where the
window is cut off at the border.
"""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.lrn import LRN
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

#: float64 powers and sums in another order
TOLERANCE = 1e-10
SHAPE = (2, 5, 4, 3)


def window_sums(values: np.ndarray, size: int, region: str) -> np.ndarray:
    """Sums over ``size`` channels, or over ``size`` x ``size`` places of one channel; outside is 0."""
    half, sums = size // 2, np.zeros(values.shape)
    for n, c, h, w in np.ndindex(values.shape):
        if region == "ACROSS_CHANNELS":
            sums[n, c, h, w] = values[n, max(0, c - half) : c + half + 1, h, w].sum()
        else:
            sums[n, c, h, w] = values[n, c, max(0, h - half) : h + half + 1, max(0, w - half) : w + half + 1].sum()
    return sums


def reference(
    x: np.ndarray, g: np.ndarray, *, size: int, alpha: float, beta: float, k: float, region: str
) -> tuple[np.ndarray, np.ndarray]:
    """The top, and the gradient of sum(g * top).

    That is g / scale^beta - 2 alpha beta / n * x * (window sum of g x / scale^(beta + 1)).
    """
    area = size if region == "ACROSS_CHANNELS" else size * size
    scale = k + alpha / area * window_sums(x * x, size, region)
    spread = window_sums(g * x * scale ** (-beta - 1), size, region)
    return x * scale**-beta, g * scale**-beta - 2 * alpha * beta / area * x * spread


@on_devices
@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"), [(5, 1.0, 0.75, 1.0), (3, 2.0, 0.5, 1.0), (1, 0.3, 1.0, 1.0), (7, 0.1, 0.75, 2.0)]
)
@pytest.mark.filterwarnings("ignore:.*lrn_param.k")
def test_is_the_formula(*, device: str, region: str, size: int, alpha: float, beta: float, k: float) -> None:
    fields = f"local_size: {size} alpha: {alpha} beta: {beta} k: {k} norm_region: {region}"
    layer = make_layer(LRN, f"lrn_param {{ {fields} }}", SHAPE, device=device)
    x, g = noise(*SHAPE, device=device), noise(*SHAPE, device=device, seed=1).detach()
    (y,) = run(layer, x)
    (x_grad,) = torch.autograd.grad(y, x, g)
    # The fields are float32 in the message.
    alpha, beta = float(np.float32(alpha)), float(np.float32(beta))
    k = k if region == "ACROSS_CHANNELS" else 1.0
    values = x.detach().cpu().numpy(), g.cpu().numpy()
    expected, expected_grad = reference(*values, size=size, alpha=alpha, beta=beta, k=k, region=region)
    np.testing.assert_allclose(y.detach().cpu().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(x_grad.cpu().numpy(), expected_grad, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ["DEFAULT", "CAFFE", "CUDNN"])
def test_by_hand(engine: str) -> None:
    layer = make_layer(LRN, f"lrn_param {{ local_size: 3 alpha: 3 beta: 1 engine: {engine} }}", (1, 3, 1, 1))
    (y,) = run(layer, tensor([[[[1.0]], [[2.0]], [[3.0]]]]))
    # scales: 1 + (1 + 4), 1 + (1 + 4 + 9), 1 + (4 + 9)
    assert y.flatten().tolist() == pytest.approx([1 / 6, 2 / 15, 3 / 14])


@on_devices
@pytest.mark.parametrize("fields", ["alpha: 0.5", "local_size: 3 norm_region: WITHIN_CHANNEL", "engine: CUDNN"])
def test_layer(device: str, fields: str) -> None:
    check_layer(
        make_layer(LRN, f"lrn_param {{ {fields} }}", (1, 4, 3, 2), device=device), noise(1, 4, 3, 2, device=device)
    )


def test_k_within_a_channel_is_1() -> None:
    with pytest.warns(UserWarning, match=r"lrn_param\.k is 2; Caffe uses 1 with WITHIN_CHANNEL"):
        make_layer(LRN, "lrn_param { norm_region: WITHIN_CHANNEL k: 2 }", SHAPE)


@pytest.mark.parametrize(
    ("fields", "bottom", "message"),
    [("local_size: 4", SHAPE, "local_size is 4; Caffe takes odd sizes"), ("", (2, 5), "expected 4 axes")],
)
def test_refusals(fields: str, bottom: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(LRN, f"lrn_param {{ {fields} }}", bottom)
