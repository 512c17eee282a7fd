import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.smooth_l1_loss import SmoothL1Loss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

SHAPE = (2, 3, 2, 2)


def terms(difference: np.ndarray, sigma: float) -> np.ndarray:
    size = np.abs(difference)
    small, large = 0.5 * (sigma * difference) ** 2, size - 0.5 / sigma**2
    return np.where(size < 1 / sigma**2, small, large)


@on_devices
@pytest.mark.parametrize("weights", [0, 1, 2])
@pytest.mark.parametrize("sigma", [1, 3])
def test_fast_rcnn_and_ssd(device: str, weights: int, sigma: float) -> None:
    bottoms = [noise(*SHAPE, device=device, seed=i) for i in range(2 + weights)]
    layer = make_layer(
        SmoothL1Loss, f"smooth_l1_loss_param {{ sigma: {sigma} }}", *[SHAPE] * len(bottoms), device=device
    )
    data, target, *factors = (bottom.detach().cpu().numpy() for bottom in bottoms)
    inside, outside = [*factors, 1, 1][:2]
    expected = (outside * terms(inside * (data - target), sigma)).sum() / SHAPE[0]
    assert run(layer, *bottoms)[0].item() == pytest.approx(expected)
    check_layer(layer, *bottoms[:2], *(weight.detach() for weight in bottoms[2:]))


def test_gradient_at_the_corner_and_no_gradient_for_weights() -> None:
    layer = make_layer(SmoothL1Loss, "", (1, 4), (1, 4), (1, 4))
    data, target, weight = tensor([[0.5, 1, -3, 0]]), tensor([[0.0, 0, 0, 0]]), tensor([[1.0, 1, 1, 1]])
    found = torch.autograd.grad(layer(data, target, weight), (data, target, weight), allow_unused=True)
    assert found[0].tolist() == [[0.5, 1, -1, 0]]
    assert found[1].tolist() == [[-0.5, -1, 1, 0]]
    assert found[2] is None


@pytest.mark.parametrize(
    ("loss_param", "divisor"),
    [
        ("loss_param { normalization: FULL }", 8),
        ("loss_param { normalization: VALID }", 8),
        ("loss_param { normalization: BATCH_SIZE }", 2),
        ("loss_param { normalization: NONE }", 1),
        ("loss_param { normalize: false }", 2),
        ("loss_param { }", 8),
        ("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 5 }", 5),
        ("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 0.5 }", 1),
    ],
)
def test_rfcn(loss_param: str, divisor: float) -> None:
    layer = make_layer(SmoothL1Loss, f'top: "loss" top: "each" {loss_param}', SHAPE, SHAPE, SHAPE)
    bottoms = [noise(*SHAPE, seed=i) for i in range(3)]
    data, target, weight = (bottom.detach().numpy() for bottom in bottoms)
    loss, each = run(layer, *bottoms)
    expected = terms(weight * (data - target), 1)
    assert loss.item() == pytest.approx(expected.sum() / divisor)
    np.testing.assert_allclose(each.detach().numpy(), expected.sum(1, keepdims=True), rtol=1e-12)
    assert not each.requires_grad


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", ((2, 3), (2, 4)), "expected as many values and items in each"),
        ("smooth_l1_loss_param { sigma: 0 }", ((2, 3), (2, 3)), "sigma is 0; expected a number above 0"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(SmoothL1Loss, fields, *shapes)
