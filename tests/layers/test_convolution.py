"""Convolution against sums over the taps of each window, written out."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.convolution import Convolution
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run

#: float64 sums of a few dozen products in another order
TOLERANCE = 1e-12


def make_convolution(fields: str, *bottoms: Shape, text: str = "", device: str = "cpu") -> Convolution:
    layer = randomize(make_layer(Convolution, f"{text} convolution_param {{ {fields} }}", *bottoms, device=device))
    assert isinstance(layer, Convolution)
    return layer


def reference(layer: Convolution, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """y[n, o, p] = bias[o] + sum over c, k of weight[o, c, k] x[n, c', p stride + k dilation - pad].

    c' runs through the channels of o's group; taps outside the bottom add nothing.
    """
    kernel, stride, pad, dilation = layer.window
    sizes = x.shape[2:]
    outputs = [
        int((size + 2 * p - (d * (k - 1) + 1)) / s) + 1  # int() rounds towards zero
        for size, k, s, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
    ]
    y = np.zeros((x.shape[0], weight.shape[0], *outputs))
    outputs_of_group, channels_of_group = weight.shape[0] // layer.group, weight.shape[1]
    for n, o in product(range(x.shape[0]), range(weight.shape[0])):
        first = o // outputs_of_group * channels_of_group
        for place in product(*map(range, outputs)):
            for tap in product(*map(range, kernel)):
                at = [i * s + t * d - p for i, t, s, p, d in zip(place, tap, stride, pad, dilation, strict=True)]
                if all(0 <= a < size for a, size in zip(at, sizes, strict=True)):
                    for c in range(channels_of_group):
                        y[(n, o, *place)] += weight[(o, c, *tap)] * x[(n, first + c, *at)]
            y[(n, o, *place)] += 0 if bias is None else bias[o]
    return y


CASES = [
    ("num_output: 3 kernel_size: 3", (2, 2, 5, 4), (2, 3, 3, 2)),
    ("num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2", (1, 4, 5, 6), (1, 4, 3, 3)),
    ("num_output: 4 kernel_size: 2 group: 4 bias_term: false", (1, 4, 3, 3), (1, 4, 2, 2)),
    ("num_output: 2 kernel_size: 2 dilation: 2 pad: 1", (1, 1, 4, 3), (1, 2, 4, 3)),
    ("num_output: 1 kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 1 pad_h: 1 pad_w: 0", (1, 2, 4, 5), (1, 1, 2, 3)),
    ("num_output: 2 kernel_size: 3 kernel_size: 1 stride: 1 stride: 2", (1, 2, 4, 5), (1, 2, 2, 3)),
    ("num_output: 2 kernel_size: 3 stride: 2", (2, 1, 6), (2, 2, 2)),
    ("num_output: 2 kernel_size: 2", (1, 2, 2, 3, 2), (1, 2, 1, 2, 1)),
    ("num_output: 2 kernel_size: 2 stride: 2 group: 2", (1, 2, 2, 4, 2, 2), (1, 2, 1, 2, 1, 1)),
    # The only window overhangs the bottom by less than a stride.
    ("num_output: 2 kernel_size: 4 stride: 3", (1, 1, 3, 3), (1, 2, 1, 1)),
]


@on_devices
@pytest.mark.parametrize(("fields", "bottom", "top"), CASES)
@pytest.mark.parametrize("engine", ["DEFAULT", "CAFFE", "CUDNN"])
def test_is_the_sum_over_taps(device: str, fields: str, bottom: Shape, top: Shape, engine: str) -> None:
    layer = make_convolution(f"engine: {engine} {fields}", bottom, device=device)
    assert layer.infer_shapes(bottom) == [top]
    x = noise(*bottom, device=device)
    weight, *bias = (blob.detach().cpu().numpy() for blob in layer.blobs)
    expected = reference(layer, x.detach().cpu().numpy(), weight, bias[0] if bias else None)
    (found,) = run(layer, x)
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("fields", "bottom", "top"), CASES[:6])
def test_gradients_are_those_of_the_sum(fields: str, bottom: Shape, top: Shape) -> None:
    """y is linear in x and in the weight: <g, y(x)> has the gradient <g, y(e)> for each unit vector e."""
    layer = make_convolution(fields, bottom)
    x, g = noise(*bottom), noise(*top, seed=5).detach()
    (y,) = run(layer, x)
    x_grad, weight_grad, *bias_grad = torch.autograd.grad(y, [x, *layer.blobs], g)
    weight = layer.blob(0).detach().numpy()
    apply: Callable[[np.ndarray], np.ndarray]
    for found, values, apply in (
        (x_grad, x.detach().numpy(), lambda unit: reference(layer, unit, weight, None)),
        (weight_grad, weight, lambda unit: reference(layer, x.detach().numpy(), unit, None)),
    ):
        for place in list(np.ndindex(values.shape))[::3]:
            unit = np.zeros(values.shape)
            unit[place] = 1
            assert found[place].item() == pytest.approx(float((apply(unit) * g.numpy()).sum()), abs=1e-10)
    for found in bias_grad:
        np.testing.assert_allclose(found.numpy(), g.numpy().sum((0, 2, 3)), rtol=TOLERANCE, atol=TOLERANCE)


@on_devices
@pytest.mark.parametrize(
    ("fields", "bottom"),
    [
        ("num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2", (1, 2, 4, 5)),
        ("num_output: 1 kernel_size: 2 engine: CAFFE", (1, 2, 3, 3)),
        ("num_output: 2 kernel_size: 2", (1, 1, 2, 2, 2, 3)),
    ],
)
def test_layer(device: str, fields: str, bottom: Shape) -> None:
    check_layer(make_convolution(fields, bottom, device=device), noise(*bottom, device=device))


def test_axes_before_axis_are_a_larger_batch() -> None:
    layer = make_convolution("num_output: 3 kernel_size: 2 axis: 2", (2, 3, 2, 4, 4))
    x = noise(2, 3, 2, 4, 4)
    assert layer.infer_shapes((2, 3, 2, 4, 4)) == [(2, 3, 3, 3, 3)]
    flat = make_convolution("num_output: 3 kernel_size: 2", (6, 2, 4, 4))
    torch.testing.assert_close(run(layer, x)[0].flatten(0, 1), run(flat, x.flatten(0, 1))[0])


def test_without_spatial_axes_it_is_a_product() -> None:
    layer = make_convolution("num_output: 4 kernel_size: 1 group: 2", (3, 2))
    x = noise(3, 2)
    expected = x.detach().numpy().repeat(2, 1) * layer.blob(0).detach().numpy().ravel() + layer.blob(1).detach().numpy()
    np.testing.assert_allclose(run(layer, x)[0].detach().numpy(), expected, rtol=TOLERANCE)


def test_every_bottom_has_its_top() -> None:
    layer = make_convolution("num_output: 2 kernel_size: 2", (1, 1, 3, 3), (1, 1, 3, 3), text='top: "a" top: "b"')
    bottoms = noise(1, 1, 3, 3), noise(1, 1, 3, 3, seed=9)
    weight, bias = (blob.detach().numpy() for blob in layer.blobs)
    for bottom, top in zip(bottoms, run(layer, *bottoms), strict=True):
        expected = reference(layer, bottom.detach().numpy(), weight, bias)
        np.testing.assert_allclose(top.detach().numpy(), expected, rtol=TOLERANCE)


def test_flops_and_drawing() -> None:
    layer = make_convolution("num_output: 6 kernel_size: 3 group: 2", (2, 4, 5, 5))
    assert layer.blob_shapes == [(6, 2, 3, 3), (6,)]
    # Each of 2 x 6 x 3 x 3 outputs: 2 channels x 9 taps, a product and a sum each.
    assert layer.flops([(2, 4, 5, 5)], [(2, 6, 3, 3)]) == 2 * (2 * 6 * 9) * 18
    assert Convolution.drawing_details(layer.param) == ["6 outputs, group 2", "kernel 3"]


@pytest.mark.parametrize(
    ("fields", "bottom", "message"),
    [
        ("kernel_size: 3", (1, 2, 4, 4), "num_output is missing or 0"),
        ("num_output: 2", (1, 2, 4, 4), "kernel_size is given 0 times"),
        ("num_output: 3 kernel_size: 3 group: 2", (1, 2, 4, 4), "group is 2; it must divide both"),
        ("num_output: 2 kernel_size: 9", (1, 2, 4, 4), r"kernel \(9, 9\) .* does not fit a bottom of \(4, 4\)"),
        ("num_output: 2 kernel_size: 2 axis: 4", (1, 2, 4, 4), "axis is 4"),
    ],
)
def test_refusals(fields: str, bottom: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_convolution(fields, bottom)


def test_refuses_other_bottoms() -> None:
    layer = make_convolution("num_output: 2 kernel_size: 2", (1, 2, 4, 4))
    with pytest.raises(NetError, match="has 3 channels; the weights take 2"):
        layer.infer_shapes((1, 3, 4, 4))
    with pytest.raises(NetError, match="expected 4 axes"):
        layer.infer_shapes((1, 2, 4))
    with pytest.raises(NetError, match="expected equal shapes"):
        layer.infer_shapes((1, 2, 4, 4), (1, 2, 4, 5))
