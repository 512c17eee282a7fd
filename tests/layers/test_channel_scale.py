import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.channel_scale import ChannelScale
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

X, FACTORS = (2, 3, 2, 4), (2, 1, 2, 4)


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(ChannelScale, "", X, FACTORS, device=device)
    x, factors = noise(*X, device=device), noise(*FACTORS, device=device, seed=1)
    check_layer(layer, x, factors)
    assert torch.equal(run(layer, x, factors)[0], x * factors)


@pytest.mark.parametrize("feature", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("forward", [True, False])
def test_what_is_turned_off(feature: bool, scale: bool, forward: bool) -> None:
    flags = f"do_forward: {forward} do_backward_feature: {feature} do_backward_scale: {scale}".lower()
    layer = make_layer(ChannelScale, f"channel_scale_param {{ {flags} }}", (1, 2, 1, 1), (1, 1))
    x, factors = tensor([[[[3.0]], [[4.0]]]]), tensor([[5.0]])
    (top,) = run(layer, x, factors)
    assert top.flatten().tolist() == ([15, 20] if forward else [3, 4])
    diff = torch.tensor([[[[1.0]], [[10.0]]]], dtype=torch.float64)
    of_x, of_factors = torch.autograd.grad(top, (x, factors), diff)
    assert of_x.flatten().tolist() == ([5, 50] if feature else [1, 10])
    assert of_factors.tolist() == ([[43]] if scale else [[0]])


def test_one_number_for_all() -> None:
    """The average of the factors' sizes over the passes, within its limits; its gradient is that of the factors."""
    text = 'top: "y" top: "s" channel_scale_param { global_scale: true max_global_scale: 4 }'
    layer = make_layer(ChannelScale, text, (2, 1, 1, 1), (2, 1, 1, 1), phase="TRAIN")
    x = tensor([[[[1.0]]], [[[2.0]]]])
    found = []
    for values in ([1.0, -3.0], [5.0, 5.0], [900.0, 0.0]):
        factors = tensor([[[[value]]] for value in values])
        top, scale = run(layer, x, factors)
        found.append(scale.item())
        assert top.flatten().tolist() == pytest.approx([scale.item(), 2 * scale.item()])
        assert torch.autograd.grad(top.sum(), x)[0].flatten().tolist() == values
    assert found == pytest.approx([2, 2 * 0.99 + 5 * 0.01, 4])
    layer.eval()
    assert run(layer, x, tensor([[[[7.0]]], [[[7.0]]]]))[1].item() == 4
    # Without a training pass the number is -1, and so the least one.
    fresh = make_layer(ChannelScale, text, (2, 1, 1, 1), (2, 1, 1, 1))
    assert run(fresh, x, factors)[1].item() == 0


def test_refusals() -> None:
    with pytest.raises(NetError, match=r"expected \(N, C, H, W\) and \(N, 1, H, W\)"):
        make_layer(ChannelScale, "", X, X)
    with pytest.raises(NetError, match="has 2 tops; expected 1"):
        make_layer(ChannelScale, 'top: "y" top: "s"', X, FACTORS)


@pytest.mark.parametrize("fields", ["", "global_scale: true", "do_forward: false"])
def test_onnx(fields: str) -> None:
    layer = f'type: "ChannelScale" channel_scale_param {{ {fields} }}'
    check_onnx(layer, numbers(*X), numbers(*FACTORS, seed=1))
