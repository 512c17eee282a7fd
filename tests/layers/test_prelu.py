import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.prelu import PReLU
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 2)])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_layer(device: str, shared: str, shape: tuple[int, ...]) -> None:
    layer = make_layer(PReLU, f"prelu_param {{ channel_shared: {shared} }}", shape, device=device)
    assert layer.blob_shapes == ([()] if shared == "true" else [(3,)])
    check_layer(layer, noise(*shape, device=device))


def test_default_slope_and_gradients_at_zero() -> None:
    layer = make_layer(PReLU, "", (1, 3))
    bottom = tensor([[-4.0, 0.0, 4.0]])
    assert run(layer, bottom)[0].tolist() == [[-1, 0, 4]]
    assert gradient(layer, bottom) == [0.25, 0.25, 1]
    run(layer, bottom)[0].sum().backward()
    assert layer.blobs[0].grad is not None
    assert layer.blobs[0].grad.tolist() == [-4, 0, 0]


def test_filler() -> None:
    layer = make_layer(PReLU, 'prelu_param { filler { type: "constant" value: 0.5 } }', (1, 2))
    assert torch.equal(layer.blobs[0], torch.full((2,), 0.5, dtype=torch.float64))


def test_five_axes() -> None:
    layer = make_layer(PReLU, "", (1, 2, 1, 1, 2))
    layer.blobs[0].data.copy_(torch.tensor([0.5, 2.0]))
    bottom = torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64).view(1, 2, 1, 1, 2)
    assert layer(bottom).flatten().tolist() == [-0.5, 1, -2, 1]


def test_refuses_axes() -> None:
    with pytest.raises(NetError, match="expected at least 2 axes"):
        make_layer(PReLU, "", (3,))


def test_refuses_other_channels() -> None:
    with pytest.raises(NetError, match=r"bottom \(1, 5\) has 5 channels; the slopes have shape \(3,\)"):
        make_layer(PReLU, "", (1, 3)).infer_shapes((1, 5))
