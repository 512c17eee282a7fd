import math

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.flow_warp import FlowWarp
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

IMAGE, FLOW = (2, 2, 3, 4), (2, 2, 3, 4)


def warped(image: np.ndarray, flow: np.ndarray, fill: float) -> np.ndarray:
    """The definition, place by place."""
    top = np.full_like(image, fill)
    height, width = image.shape[2:]
    for n, y, x in np.ndindex(image.shape[0], height, width):
        x2, y2 = x + flow[n, 0, y, x], y + flow[n, 1, y, x]
        if not (0 <= x2 < width and 0 <= y2 < height):
            continue
        left, above = int(x2), int(y2)
        right, below = min(left + 1, width - 1), min(above + 1, height - 1)
        a, b = x2 - left, y2 - above
        pixels = image[n]
        upper = (1 - a) * pixels[:, above, left] + a * pixels[:, above, right]
        lower = (1 - a) * pixels[:, below, left] + a * pixels[:, below, right]
        top[n, :, y, x] = (1 - b) * upper + b * lower
    return top


@on_devices
@pytest.mark.parametrize(("fill", "value"), [("ZERO", 0.0), ("NOT_A_NUMBER", math.nan)])
def test_layer(device: str, fill: str, value: float) -> None:
    layer = make_layer(FlowWarp, f"flow_warp_param {{ fill_value: {fill} }}", IMAGE, FLOW, device=device)
    image, flow = noise(*IMAGE, device=device), (2 * noise(*FLOW, device=device, seed=1)).detach().requires_grad_()
    expected = warped(image.detach().cpu().numpy(), flow.detach().cpu().numpy(), value)
    top = run(layer, image, flow)[0].detach().cpu().numpy()
    np.testing.assert_allclose(top, expected, rtol=1e-9, atol=1e-12)
    assert (expected == 0).any() or np.isnan(expected).any()
    if fill == "ZERO":
        check_layer(layer, image, flow)


def test_the_last_row_and_column_go_on_for_a_pixel() -> None:
    layer = make_layer(FlowWarp, "", (1, 1, 1, 2), (1, 2, 1, 2))
    image, flow = tensor([[[[3.0, 5.0]]]]), tensor([[[[1.9, 0.9]], [[0.9, 0.9]]]])
    (top,) = run(layer, image, flow)
    assert top.flatten().tolist() == [5, 5]
    assert [g.abs().sum().item() for g in torch.autograd.grad(top.sum(), (image, flow))] == [2, 0]


def test_a_flow_that_is_no_number_fills() -> None:
    layer = make_layer(FlowWarp, "", (1, 1, 1, 1), (1, 2, 1, 1))
    image = tensor([[[[3.0]]]])
    (top,) = run(layer, image, tensor([[[[math.nan]], [[0.0]]]]))
    assert top.item() == 0
    assert torch.autograd.grad(top, image)[0].item() == 0


@pytest.mark.parametrize("flow", [(2, 3, 3, 4), (2, 2, 4, 4), (1, 2, 3, 4)])
def test_refusals(flow: tuple[int, ...]) -> None:
    with pytest.raises(NetError, match=r"expected \(N, C, H, W\) and \(N, 2, H, W\)"):
        make_layer(FlowWarp, "", IMAGE, flow)
