import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.normalize import Normalize
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run, tensor

SHAPE = (2, 3, 2, 4)


@on_devices
@pytest.mark.parametrize("across_spatial", [True, False])
@pytest.mark.parametrize("channel_shared", [True, False])
def test_ssd(device: str, across_spatial: bool, channel_shared: bool) -> None:
    fields = f"across_spatial: {across_spatial} channel_shared: {channel_shared} eps: 0.5".lower()
    layer = randomize(make_layer(Normalize, f"norm_param {{ {fields} }}", SHAPE, device=device))
    assert layer.blob_shapes == [() if channel_shared else (3,)]
    x = noise(*SHAPE, device=device)
    check_layer(layer, x)
    values, scale = x.detach().cpu().numpy(), layer.blobs[0].detach().cpu().numpy()
    expected = np.empty(SHAPE)
    for n, c, h, w in np.ndindex(*SHAPE):
        seen = values[n] if across_spatial else values[n, :, h, w]
        expected[n, c, h, w] = values[n, c, h, w] / np.sqrt((seen**2).sum() + 0.5)
        expected[n, c, h, w] *= scale if channel_shared else scale[c]
    np.testing.assert_allclose(run(layer, x)[0].detach().cpu().numpy(), expected, rtol=1e-12)


def test_ssd_by_default() -> None:
    # One item has the norm 5: over all its values.  The scale is 1, or what scale_filler says.
    for fields, scale in (("", 1), ('scale_filler { type: "constant" value: 20 }', 20)):
        layer = make_layer(Normalize, f"norm_param {{ {fields} }}", (1, 2, 1, 1))
        assert run(layer, tensor([[[[3.0]], [[4.0]]]]))[0].flatten().tolist() == pytest.approx(
            [0.6 * scale, 0.8 * scale]
        )


def test_a_fixed_scale_is_not_learned() -> None:
    assert make_layer(Normalize, "norm_param { across_spatial: false fix_scale: false }", SHAPE).blobs[0].requires_grad
    assert (
        not make_layer(Normalize, "norm_param { across_spatial: false fix_scale: true }", SHAPE).blobs[0].requires_grad
    )


@on_devices
@pytest.mark.parametrize("order", ["L2", "L1"])
def test_normface(device: str, order: str) -> None:
    text = f'top: "y" top: "norm" normalize_param {{ normalize_type: "{order}" bp_norm: true }}'
    layer = make_layer(Normalize, text, SHAPE, device=device)
    assert not layer.blobs
    x = noise(*SHAPE, device=device)
    check_layer(layer, x)
    values = x.detach().cpu().numpy()
    norm = np.sqrt((values**2).sum(1) + 1e-6) if order == "L2" else np.abs(values).sum(1) + 1e-6
    y, found = (top.detach().cpu().numpy() for top in run(layer, x))
    np.testing.assert_allclose(found[:, 0], norm, rtol=1e-12)
    np.testing.assert_allclose(y, values / norm[:, None], rtol=1e-12)


def test_without_fields_it_is_normfaces() -> None:
    layer = make_layer(Normalize, "", (1, 2))
    assert not layer.blobs
    assert run(layer, tensor([[3.0, 4.0]]))[0].tolist()[0] == pytest.approx([0.6, 0.8])


def test_the_type_in_normfaces_early_files() -> None:
    layer = make_layer(Normalize, 'softmax_param { normalize_type: "L2" }', (1, 2))
    assert run(layer, tensor([[3.0, 4.0]]))[0].tolist()[0] == pytest.approx([0.6, 0.8])


def test_the_norm_has_a_gradient_only_when_asked() -> None:
    for asked in (True, False):
        text = f'top: "y" top: "norm" normalize_param {{ bp_norm: {str(asked).lower()} }}'
        assert run(make_layer(Normalize, text, (1, 2)), tensor([[3.0, 4.0]]))[1].requires_grad is asked


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('norm_param { eps: 1 normalize_type: "L1" }', "have fields of two layers: SSD's has across_spatial"),
        ("norm_param { eps: 1 } normalize_param { bp_norm: true }", "have fields of two layers"),
        ('normalize_param { normalize_type: "L3" }', 'normalize_type is "L3"; expected L2 or L1'),
        ('top: "y" top: "norm" norm_param { eps: 1 }', "has 2 tops; expected 1"),
        ('softmax_param { normalize_type: "L1" }', 'normalize_type is "L1", and NormFace.s later code takes L2'),
        ('softmax_param { normalize_type: "L2" } norm_param { eps: 1 }', "is of NormFace's layer, norm_param of SSD's"),
        ("softmax_param { axis: 1 }", "softmax_param.axis: Normalize here does not read it; it is of Softmax"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Normalize, fields, SHAPE)


def test_refuses_a_gradient_that_is_not_the_true_one() -> None:
    text = "normalize_param { fix_gradient: true }"
    make_layer(Normalize, text, SHAPE)
    with pytest.raises(NetError, match="fix_gradient is not supported in training"):
        make_layer(Normalize, text, SHAPE, phase="TRAIN")


def test_refuses_other_channels() -> None:
    layer = make_layer(Normalize, "norm_param { channel_shared: false }", SHAPE)
    with pytest.raises(NetError, match=r"bottom has shape \(2, 4, 2, 4\); expected"):
        layer.infer_shapes((2, 4, 2, 4))
    assert torch.isfinite(layer(torch.zeros(SHAPE, dtype=torch.float64))).all()
