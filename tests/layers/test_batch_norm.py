import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.batch_norm import BatchNorm
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run
from tests.layers.onnx_form import check_onnx, numbers

BOTTOM = (4, 3, 2, 2)


@on_devices
@pytest.mark.parametrize("bottom", [BOTTOM, (5, 3)])
@pytest.mark.parametrize(
    ("phase", "fields"), [("TRAIN", ""), ("TRAIN", "use_global_stats: true"), ("TEST", "eps: 0.1")]
)
def test_layer(device: str, bottom: tuple[int, ...], phase: str, fields: str) -> None:
    layer = make_layer(BatchNorm, f"batch_norm_param {{ {fields} }}", bottom, phase=phase, device=device)
    layer.blob(1).fill_(2)
    layer.blob(2).fill_(1)
    check_layer(layer, noise(*bottom, device=device))


@on_devices
def test_train_values_and_averages(device: str) -> None:
    layer = make_layer(
        BatchNorm, "batch_norm_param { moving_average_fraction: 0.5 }", BOTTOM, phase="TRAIN", device=device
    )
    batches = [noise(*BOTTOM, device=device), noise(*BOTTOM, device=device, seed=1)]
    for bottom in batches:
        (top,) = run(layer, bottom)
        mean, variance = bottom.mean((0, 2, 3), keepdim=True), bottom.var((0, 2, 3), keepdim=True, correction=0)
        torch.testing.assert_close(top, (bottom - mean) / (variance + 1e-5).sqrt())
    means, variances = ([b.mean((0, 2, 3)) for b in batches], [b.var((0, 2, 3)) for b in batches])
    torch.testing.assert_close(layer.blob(0), 0.5 * means[0] + means[1])
    torch.testing.assert_close(layer.blob(1), 0.5 * variances[0] + variances[1])
    assert layer.blob(2).tolist() == [1.5]


def test_global_stats_are_divided_by_their_factor() -> None:
    layer = make_layer(BatchNorm, "", BOTTOM)
    layer.blob(0).copy_(torch.tensor([2.0, 4.0, 6.0]))
    layer.blob(1).fill_(8)
    layer.blob(2).fill_(2)
    bottom = noise(*BOTTOM)
    expected = (bottom - torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)) / (4 + 1e-5) ** 0.5
    torch.testing.assert_close(run(layer, bottom)[0], expected)
    assert layer.blob(2).tolist() == [2]


def test_a_factor_of_zero_counts_as_no_statistics() -> None:
    layer = make_layer(BatchNorm, "", BOTTOM)
    layer.blob(0).fill_(7)
    torch.testing.assert_close(run(layer, noise(*BOTTOM))[0], noise(*BOTTOM) / 1e-5**0.5)


def test_one_value_per_channel_gives_zero() -> None:
    layer = make_layer(BatchNorm, "", (1, 3), phase="TRAIN")
    bottom = noise(1, 3)
    (top,) = run(layer, bottom)
    assert not top.any()
    assert not torch.autograd.grad(top.sum(), bottom)[0].any()
    assert torch.equal(layer.blob(0), bottom[0])
    assert not layer.blob(1).any()


def test_statistics_are_not_learned() -> None:
    layer = make_layer(BatchNorm, "param { lr_mult: 0 }", BOTTOM)
    assert [spec.lr_mult for spec in layer.param.param] == [0, 0, 0]
    assert not any(blob.requires_grad for blob in layer.blobs)


@pytest.mark.parametrize(
    ("text", "bottom", "message"),
    [
        ("param { lr_mult: 0 } param { lr_mult: 1 }", BOTTOM, "param 1 has lr_mult 1.0; statistics are not learned"),
        ("", (3,), "at least 2 axes"),
    ],
)
def test_refusals(text: str, bottom: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(BatchNorm, text, bottom)


def test_refuses_other_channels_later() -> None:
    with pytest.raises(NetError, match="expected 3 channels on axis 1"):
        make_layer(BatchNorm, "", BOTTOM).infer_shapes((4, 2, 2, 2))


@on_devices
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_scale_and_bias_as_of_a_scale_layer_behind(device: str, phase: str) -> None:
    fields = "batch_norm_param { scale_bias: true eps: 0.1 }"
    layer = randomize(make_layer(BatchNorm, fields, BOTTOM, phase=phase, device=device))
    plain = make_layer(BatchNorm, "batch_norm_param { eps: 0.1 }", BOTTOM, phase=phase, device=device)
    assert layer.blob_names == ["mean", "variance", "factor", "weight", "bias"]
    for one in (layer, plain):
        one.blob(1).fill_(2)
        one.blob(2).fill_(1)
    bottom = noise(*BOTTOM, device=device)
    scale, bias = (layer.blob(i).reshape(1, 3, 1, 1) for i in (3, 4))
    torch.testing.assert_close(run(layer, bottom)[0], run(plain, bottom)[0] * scale + bias)
    check_layer(layer, bottom)


def test_scale_and_bias_start_as_the_identity_or_by_their_fillers() -> None:
    layer = make_layer(BatchNorm, "batch_norm_param { scale_bias: true eps: 1e-9 }", BOTTOM)
    assert [layer.blob(i).tolist() for i in (3, 4)] == [[1, 1, 1], [0, 0, 0]]
    assert layer.eps == 1e-5
    assert [blob.requires_grad for blob in layer.blobs] == [False] * 3 + [True] * 2
    filled = make_layer(BatchNorm, "batch_norm_param { bias_filler { value: 4 } }", BOTTOM)
    assert [filled.blob(i).tolist() for i in (3, 4)] == [[1, 1, 1], [4, 4, 4]]


def test_one_value_per_channel_gives_the_bias() -> None:
    layer = randomize(make_layer(BatchNorm, "batch_norm_param { scale_bias: true }", (1, 3), phase="TRAIN"))
    assert torch.equal(run(layer, noise(1, 3))[0][0], layer.blob(4))


def test_onnx() -> None:
    check_onnx('type: "BatchNorm" batch_norm_param { scale_bias: true }', numbers(2, 3, 4, 4))
