import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.bn import BN
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run
from tests.layers.onnx_form import check_onnx, numbers

BOTTOM = (4, 3, 2, 2)


def normalised(
    bottom: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, *, eps: float = 0.1
) -> Tensor:
    """The definition, channel by channel (axis 1)."""
    channels = [
        (x - m) / (v + eps).sqrt() * a + b
        for x, m, v, a, b in zip(
            bottom.unbind(1), mean.flatten(), variance.flatten(), scale.flatten(), shift.flatten(), strict=True
        )
    ]
    return torch.stack(channels, 1)


def statistics(bottom: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel (axis 1)."""
    channels = bottom.transpose(0, 1).flatten(1)
    mean = channels.mean(1)
    return mean, (channels.square().mean(1) - mean.square())


def make(fields: str, phase: str = "TEST", device: str = "cpu", bottom: tuple[int, ...] = BOTTOM) -> BN:
    layer = randomize(make_layer(BN, f"bn_param {{ {fields} }}", bottom, phase=phase, device=device))
    for i in range(2, len(layer.blobs)):
        layer.blobs[i].data.copy_(noise(*layer.blob_shapes[i], seed=10 + i).detach().abs() + 0.1)
    return layer


@on_devices
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("fields", ["bn_mode: LEARN", "bn_mode: INFERENCE", "scale_filler { value: 1 }"])
def test_segnet(device: str, phase: str, fields: str) -> None:
    layer = make(fields, phase, device)
    assert layer.blob_shapes == [(1, 3, 1, 1)] * 2
    bottom = noise(*BOTTOM, device=device)
    check_layer(layer, bottom)
    if "INFERENCE" in fields:
        expected = bottom * layer.blob(0) + layer.blob(1)
    else:
        expected = normalised(bottom, *statistics(bottom), layer.blob(0), layer.blob(1), eps=1e-9)
    torch.testing.assert_close(run(layer, bottom)[0], expected)


def test_segnet_s_other_tops_are_the_batch_s_statistics() -> None:
    layer = make_layer(BN, 'top: "y" top: "m" top: "v" bn_param { bn_mode: LEARN }', BOTTOM)
    _, mean, variance = run(layer, noise(*BOTTOM))
    assert mean.shape == variance.shape == (1, 3, 1, 1)
    torch.testing.assert_close((mean.flatten(), variance.flatten()), statistics(noise(*BOTTOM).detach()))
    assert not mean.requires_grad


@on_devices
@pytest.mark.parametrize(("phase", "frozen"), [("TEST", "false"), ("TEST", "true"), ("TRAIN", "true")])
def test_pspnet_with_averages(device: str, phase: str, frozen: str) -> None:
    layer = make(f"frozen: {frozen} eps: 0.1", phase, device)
    bottom = noise(*BOTTOM, device=device)
    check_layer(layer, bottom)
    before = [blob.clone() for blob in layer.blobs]
    slope, bias, mean, variance = layer.blobs
    torch.testing.assert_close(run(layer, bottom)[0], normalised(bottom, mean, variance, slope, bias))
    assert all(torch.equal(blob, kept) for blob, kept in zip(layer.blobs, before, strict=True))


@on_devices
def test_pspnet_in_training(device: str) -> None:
    layer = make("momentum: 0.75 eps: 0.1", "TRAIN", device)
    old = [layer.blobs[i].detach().clone().flatten() for i in (2, 3)]
    bottom = noise(*BOTTOM, device=device)
    batch = statistics(bottom)
    (top,) = run(layer, bottom)
    torch.testing.assert_close(top, normalised(bottom, *batch, layer.blobs[0], layer.blobs[1]))
    for i in (0, 1):
        torch.testing.assert_close(layer.blobs[2 + i].flatten(), 0.75 * old[i] + 0.25 * batch[i].detach())
    check_layer(layer, bottom)


def test_pspnet_s_statistics_are_not_learned() -> None:
    text = "param { lr_mult: 2 } param { lr_mult: 2 } param { lr_mult: 2 } bn_param { momentum: 0.9 }"
    layer = make_layer(BN, text, BOTTOM)
    assert [p.lr_mult for p in layer.param.param] == [2, 2, 0, 0]
    assert [p.decay_mult for p in layer.param.param] == [1, 1, 0, 0]
    assert [blob.requires_grad for blob in layer.blobs] == [True, True, False, False]
    frozen = make_layer(BN, "bn_param { frozen: true }", BOTTOM)
    assert [p.lr_mult for p in frozen.param.param] == [0] * 4
    assert not any(blob.requires_grad for blob in frozen.blobs)


def test_where_the_averages_start() -> None:
    assert not make_layer(BN, "bn_param { momentum: 0.9 }", BOTTOM).blobs[3].any()
    assert make_layer(BN, "bn_param { frozen: true }", BOTTOM).blobs[3].eq(1).all()
    slope = make_layer(BN, "bn_param { slope_filler { value: 3 } bias_filler { value: 4 } }", BOTTOM)
    assert [slope.blobs[i].unique().tolist() for i in (0, 1)] == [[3], [4]]
    scale = make_layer(BN, "bn_param { scale_filler { value: 3 } shift_filler { value: 4 } }", BOTTOM)
    assert [scale.blobs[i].unique().tolist() for i in (0, 1)] == [[3], [4]]


@on_devices
@pytest.mark.parametrize("axis", [1, 2])
def test_ctpn(device: str, axis: int) -> None:
    fields = f"var_eps: 0.1 decay: 0.25 axis: {axis}"
    bottom = noise(4, 3, 3, 2, device=device)
    # Channels on axis 2 are those of the bottom with both axes exchanged.
    as_axis1 = bottom.transpose(1, axis)
    test = make(fields, "TEST", device, (4, 3, 3, 2))
    expected = normalised(as_axis1, *statistics(as_axis1), test.blobs[0], test.blobs[1])
    torch.testing.assert_close(run(test, bottom)[0], expected.transpose(1, axis))
    check_layer(test, bottom)

    moving = make(fields + " moving_average: true", "TEST", device, (4, 3, 3, 2))
    scale, shift, mean, variance = moving.blobs
    assert mean.shape == ((1, 3, 1, 1) if axis == 1 else (1, 1, 3, 1))
    expected = normalised(as_axis1, mean, variance, scale, shift)
    torch.testing.assert_close(run(moving, bottom)[0], expected.transpose(1, axis))

    train = make(fields + " moving_average: true", "TRAIN", device, (4, 3, 3, 2))
    old = train.blobs[2].detach().clone().flatten()
    run(train, bottom)
    torch.testing.assert_close(train.blobs[2].flatten(), 0.75 * old + 0.25 * statistics(as_axis1)[0].detach())


def test_one_value_a_channel() -> None:
    layer = make("momentum: 0.5", "TRAIN", bottom=(1, 3))
    torch.testing.assert_close(run(layer, noise(1, 3))[0].flatten(), layer.blobs[1].flatten())


@pytest.mark.parametrize(
    ("text", "blobs"),
    [("blobs { } blobs { }", 2), ("blobs { } blobs { } blobs { } blobs { }", 4), ("param { } param { } param { }", 4)],
)
def test_the_number_of_blobs_tells_where_no_field_does(text: str, blobs: int) -> None:
    assert len(make_layer(BN, text, BOTTOM).blobs) == blobs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not say which fork's BN it is"),
        ("bn_param { bn_mode: LEARN frozen: true }", "fields of SegNet and of PSPNet: bn_mode, frozen"),
        ("bn_param { scale_filler { } momentum: 0.9 }", "fields of PSPNet and of SegNet"),
        ("bn_param { decay: 0.1 axis: 3 }", "expected axis 1 or 2"),
        ('top: "y" top: "m" bn_param { frozen: true }', "tops of SegNet's BN in mode LEARN"),
        ('top: "y" top: "m" bn_param { bn_mode: INFERENCE }', "tops of SegNet's BN in mode LEARN"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(BN, text, BOTTOM)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(NetError, match="expected 3 channels on axis 1"):
        make("bn_mode: LEARN").infer_shapes((4, 2, 2, 2))


@pytest.mark.parametrize(
    "fields", ["bn_mode: LEARN", "bn_mode: INFERENCE", "frozen: true", "momentum: 0.9 eps: 0.1", "decay: 0.1 axis: 2"]
)
def test_onnx(fields: str) -> None:
    check_onnx(f'type: "BN" bn_param {{ {fields} }}', numbers(2, 3, 4, 5))


def test_constant_channels_do_not_become_nan() -> None:
    # SegNet's E(x^2) - E(x)^2 may come out below zero there.
    layer = make_layer(
        BN, "bn_param { bn_mode: LEARN shift_filler { value: 2 } scale_filler { value: 1 } }", (2, 1, 3, 3)
    )
    bottom = torch.full((2, 1, 3, 3), 1234.567, dtype=torch.float64)
    np.testing.assert_allclose(run(layer, bottom)[0].detach().numpy(), 2, atol=1e-4)
