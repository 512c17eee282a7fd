"""Pooling against loops over the taps of each window."""

import math
from math import nan

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.pooling import FLT_MAX, Pooling
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

TWO_TOPS = 'top: "y" top: "mask"'
#: float64 sums in another order
TOLERANCE = 1e-12
#: fields, bottom (H, W), top (H', W')
WINDOWS = [
    ("kernel_size: 3 stride: 2", (7, 8), (3, 4)),  # the last column's window is cut off at the border
    ("kernel_size: 3 stride: 2 round_mode: FLOOR", (7, 8), (3, 3)),
    ("kernel_size: 3 stride: 2 pad: 1", (6, 5), (4, 3)),
    ("kernel_size: 2 stride: 2 pad: 1", (4, 5), (3, 3)),  # the last column would start in the padding: dropped
    ("kernel_size: 3 pad: 2", (3, 4), (5, 6)),
    ("kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 1", (4, 6), (3, 4)),
    ("kernel_h: 1 kernel_w: 4", (3, 4), (3, 1)),
    ("global_pooling: true", (3, 5), (1, 1)),
    ("kernel_size: 2 stride: 3", (5, 5), (2, 2)),
    ("kernel_size: 9 pad: 8", (3, 2), (11, 10)),
    ("kernel_size: 3 stride: 2 ceil_mode: false", (7, 8), (3, 3)),
    ("kernel_size: 3 stride: 2 pad_b: 1 pad_r: 2", (6, 7), (3, 4)),
    ("kernel_size: 3 stride: 2 pad_t: 1 pad_l: 2 ceil_mode: false", (6, 7), (3, 4)),
    ("kernel_size: 2 stride: 2 pad_b: 1", (4, 5), (2, 3)),  # the last row would start in the border: dropped
]


def make_pooling(
    fields: str, height: int, width: int, *, text: str = "", device: str = "cpu", phase: str = "TEST"
) -> Pooling:
    text = f"{text} pooling_param {{ {fields} }}"
    layer = make_layer(Pooling, text, (2, 2, height, width), device=device, phase=phase)
    assert isinstance(layer, Pooling)
    return layer


def output_size(size: int, kernel: int, stride: int, pads: tuple[int, int], *, padded: bool, ceil_mode: bool) -> int:
    """Caffe's: rounded up, and without a last window that would start behind bottom and first padding."""
    pad, end = pads
    rounded = (math.ceil if ceil_mode else math.floor)((size + pad + end - kernel) / stride) + 1
    return rounded - 1 if padded and (rounded - 1) * stride >= size + pad else rounded


def windows(layer: Pooling, height: int, width: int) -> dict[tuple[int, int], tuple[range, range, int]]:
    """Each place of the top -> the rows and columns that its window reads, and AVE's divisor."""
    kernel = (height, width) if layer.global_pooling else layer.kernel
    spans = []
    for i, size in enumerate((height, width)):
        stride, pad, last = layer.stride[i], layer.pad[i], layer.end_pad[i]
        padded = any((*layer.pad, *layer.end_pad))
        count = output_size(size, kernel[i], stride, (pad, last), padded=padded, ceil_mode=layer.ceil_mode)
        axis = []
        for place in range(count):
            start = place * stride - pad
            end = min(start + kernel[i], size + last)
            axis.append((range(max(start, 0), min(end, size)), end - start))
        spans.append(axis)
    return {
        (i, j): (rows, columns, high * wide)
        for i, (rows, high) in enumerate(spans[0])
        for j, (columns, wide) in enumerate(spans[1])
    }


def reference(layer: Pooling, x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top, mask (MAX) and the gradient of sum(g * top)."""
    n_c, (height, width) = x.shape[:2], x.shape[2:]
    y, mask, x_grad = np.zeros(g.shape), np.zeros(g.shape), np.zeros(x.shape)
    for (i, j), (rows, columns, divisor) in windows(layer, height, width).items():
        for n, c in np.ndindex(n_c):
            if layer.method == "AVE":
                for row in rows:
                    for column in columns:
                        y[n, c, i, j] += x[n, c, row, column] / divisor
                        x_grad[n, c, row, column] += g[n, c, i, j] / divisor
                continue
            best, place = -math.inf, (-1, -1)
            for row in rows:
                for column in columns:
                    if x[n, c, row, column] > best:  # the first one wins a tie
                        best, place = x[n, c, row, column], (row, column)
            y[n, c, i, j], mask[n, c, i, j] = best, place[0] * width + place[1]
            x_grad[(n, c, *place)] += g[n, c, i, j]
    return y, mask, x_grad


@on_devices
@pytest.mark.parametrize(("fields", "bottom", "top"), WINDOWS)
@pytest.mark.parametrize("method", ["MAX", "MAX engine: CAFFE", "MAX engine: CUDNN", "AVE"])
@pytest.mark.parametrize("ties", [False, True])
def test_is_the_loop(
    *, device: str, fields: str, bottom: tuple[int, int], top: tuple[int, int], method: str, ties: bool
) -> None:
    layer = make_pooling(f"pool: {method} {fields}", *bottom, device=device)
    assert layer.infer_shapes((2, 2, *bottom)) == [(2, 2, *top)]
    x = noise(2, 2, *bottom, device=device).detach()
    x = (x.round() if ties else x).requires_grad_()
    g = noise(2, 2, *top, device=device, seed=1).detach()
    (y,) = run(layer, x)
    (x_grad,) = torch.autograd.grad(y, x, g)
    expected, _, expected_grad = reference(layer, x.detach().cpu().numpy(), g.cpu().numpy())
    np.testing.assert_allclose(y.detach().cpu().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(x_grad.cpu().numpy(), expected_grad, rtol=TOLERANCE, atol=TOLERANCE)


@on_devices
@pytest.mark.parametrize(("fields", "bottom", "top"), WINDOWS)
def test_mask_is_the_index_in_the_plane(
    device: str, fields: str, bottom: tuple[int, int], top: tuple[int, int]
) -> None:
    layer = make_pooling(fields, *bottom, text=TWO_TOPS, device=device)
    x = noise(2, 2, *bottom, device=device).detach()
    y, mask = run(layer, x)
    expected, expected_mask, _ = reference(layer, x.cpu().numpy(), np.zeros((2, 2, *top)))
    assert np.array_equal(y.cpu().numpy(), expected)
    assert np.array_equal(mask.cpu().numpy(), expected_mask)


def test_the_first_of_equal_maxima_takes_the_gradient() -> None:
    layer = make_layer(Pooling, "pooling_param { kernel_size: 2 }", (1, 1, 2, 2))
    assert gradient(layer, tensor([[[[1.0, 7.0], [7.0, 7.0]]]]), [[[[3.0]]]]) == [0, 3, 0, 0]


def test_ave_divides_by_the_window_cut_off_at_the_padded_bottom() -> None:
    layer = make_layer(Pooling, "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", (1, 1, 2, 2))
    # Windows start at -1 and 1; the first spans 3 of the 4 padded rows, the second 2.
    assert layer.infer_shapes((1, 1, 2, 2)) == [(1, 1, 2, 2)]
    (y,) = run(layer, tensor([[[[36.0, 72.0], [108.0, 144.0]]]]))
    assert y.tolist() == [[[[360 / 9, 216 / 6], [252 / 6, 144 / 4]]]]


@pytest.mark.parametrize("fields", ["kernel_size: 1 stride: 4", "kernel_size: 1 stride: 4 engine: CAFFE"])
def test_an_empty_max_window(fields: str) -> None:
    """The second window of a bottom of 3 starts at 4: -FLT_MAX, mask -1, and no backward."""
    (y,) = run(make_layer(Pooling, f"pooling_param {{ {fields} }}", (1, 1, 3, 3)), tensor([[[[1.0] * 3] * 3]]))
    assert y.tolist() == [[[[1.0, -FLT_MAX], [-FLT_MAX, -FLT_MAX]]]]
    layer = make_layer(Pooling, f"{TWO_TOPS} pooling_param {{ {fields} }}", (1, 1, 3, 3))
    y, mask = run(layer, tensor([[[[1.0] * 3] * 3]]))
    assert mask.tolist() == [[[[0, -1], [-1, -1]]]]
    with pytest.raises(NetError, match="leaves a MAX window wholly outside the bottom"):
        y.sum().backward()


def test_an_empty_ave_window_is_0_over_its_area() -> None:
    # The second window of a bottom of 3 starts at its end, 3, with length 0, or one behind it, with length -1.
    for stride, expected in ((3, [[2, nan], [nan, nan]]), (4, [[2, 0], [0, 0]])):
        layer = make_layer(Pooling, f"pooling_param {{ pool: AVE kernel_size: 1 stride: {stride} }}", (1, 1, 3, 3))
        (y,) = run(layer, tensor([[[[2.0] * 3] * 3]]))
        np.testing.assert_array_equal(y[0, 0].detach().numpy(), expected)


@on_devices
@pytest.mark.parametrize("fields", ["kernel_size: 3 stride: 2", "pool: AVE kernel_size: 3 stride: 2 pad: 2"])
def test_layer(device: str, fields: str) -> None:
    layer = make_layer(Pooling, f"pooling_param {{ {fields} }}", (1, 2, 4, 5), device=device)
    check_layer(layer, noise(1, 2, 4, 5, device=device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, and STOCHASTIC runs nowhere else")
def test_stochastic() -> None:
    x = noise(2, 2, 6, 6, device="cuda").detach().abs().round()
    (expectation,) = run(make_pooling("pool: STOCHASTIC kernel_size: 2 stride: 2", 6, 6, device="cuda"), x)
    blocks = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    total = blocks.sum(-1)
    expected = torch.where(total > 0, blocks.square().sum(-1) / total, 0)
    torch.testing.assert_close(expectation, expected)
    drawing = make_pooling("pool: STOCHASTIC kernel_size: 2 stride: 2", 6, 6, device="cuda", phase="TRAIN")
    mean = torch.stack([run(drawing, x)[0] for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.2)  # 2000 draws of numbers up to 4


def test_stochastic_on_the_cpu_is_refused() -> None:
    with pytest.raises(NetError, match="STOCHASTIC pooling runs on CUDA only"):
        run(make_pooling("pool: STOCHASTIC kernel_size: 2", 4, 4), noise(2, 2, 4, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "needs kernel_size, or both kernel_h and kernel_w"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "not both forms"),
        ("kernel_h: 2", "needs kernel_size, or both"),
        ("kernel_size: 0", "expected at least 1"),
        ("kernel_size: 2 stride: 0", "stride is 0; expected at least 1"),
        ("kernel_size: 2 stride_h: 1", "takes stride, or both stride_h and stride_w"),
        ("kernel_size: 2 pad: 2", r"pad \(2, 2\) must be smaller than the kernel \(2, 2\)"),
        ("kernel_size: 2 pad: 1 pool: STOCHASTIC", "pad is for MAX and AVE"),
        ("global_pooling: true kernel_size: 2", "global_pooling takes the whole bottom"),
        ("global_pooling: true pad: 1", "global_pooling takes pad 0 and stride 1 only"),
        ("kernel_size: 7", "does not fit a bottom of shape"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_pooling(fields, 4, 4)


def test_refuses_a_mask_of_averages_and_other_ranks() -> None:
    with pytest.raises(NetError, match="the mask\\) is for MAX pooling; pool is AVE"):
        make_pooling("pool: AVE kernel_size: 2", 4, 4, text=TWO_TOPS)
    with pytest.raises(NetError, match="expected 4 axes"):
        make_layer(Pooling, "pooling_param { kernel_size: 2 }", (2, 4, 4))


def test_borders_are_top_bottom_left_and_right() -> None:
    layer = make_pooling("kernel_size: 5 pad_t: 1 pad_b: 2 pad_l: 3 pad_r: 4", 5, 5)
    assert (layer.pad, layer.end_pad) == ((1, 3), (2, 4))
    # One value in the corner: AVE divides by the window within the borders.
    bottom = tensor(np.zeros((1, 1, 2, 2)))
    bottom.data[0, 0, 0, 0] = 12
    ave = make_layer(Pooling, "pooling_param { pool: AVE kernel_size: 3 stride: 3 pad_r: 1 pad_b: 1 }", (1, 1, 2, 2))
    assert run(ave, bottom)[0].flatten().tolist() == [12 / 9]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 3 pad: 1 pad_l: 1", "takes pad, or pad_t, pad_b, pad_l and pad_r"),
        ("kernel_size: 3 pad_r: 3", r"pad \(0, 3\) must be smaller than the kernel"),
        ("global_pooling: true pad_b: 1", "global_pooling takes pad 0"),
    ],
)
def test_borders_refused(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_pooling(fields, 5, 5)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("fields", ["pad_b: 1 pad_r: 2", "pad_t: 1 pad_l: 2", "ceil_mode: false"])
def test_borders_in_onnx(pool: str, fields: str) -> None:
    check_onnx(
        f'type: "Pooling" pooling_param {{ pool: {pool} kernel_size: 3 stride: 2 {fields} }}', numbers(1, 2, 6, 7)
    )
