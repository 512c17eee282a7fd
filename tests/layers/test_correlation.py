import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.correlation import Correlation
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run

BOTTOM = (2, 3, 6, 7)


def correlated(a: np.ndarray, b: np.ndarray, fields: dict[str, int], subtract: bool) -> np.ndarray:
    """The definition, place by place and displacement by displacement, as FlowNet's kernels have it."""
    kernel, reach, pad = fields["kernel_size"], fields["max_displacement"], fields["pad"]
    stride, step = fields["stride_1"], fields["stride_2"]
    a, b = (np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))) for x in (a, b))
    border = reach + (kernel - 1) // 2
    height, width = (-(-(size - 2 * border) // stride) for size in a.shape[2:])
    radius = reach // step
    side = 2 * radius + 1
    top = np.zeros((a.shape[0], side * side, height, width))
    for channel, y, x in np.ndindex(*top.shape[1:]):
        y1, x1 = y * stride + reach, x * stride + reach
        y2, x2 = y1 + (channel // side - radius) * step, x1 + (channel % side - radius) * step
        first, second = a[:, :, y1 : y1 + kernel, x1 : x1 + kernel], b[:, :, y2 : y2 + kernel, x2 : x2 + kernel]
        top[:, channel, y, x] = (np.abs(first - second) if subtract else first * second).mean((1, 2, 3))
    return top


@on_devices
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize(
    ("kernel", "reach", "pad", "stride", "step"),
    [(1, 2, 2, 1, 1), (1, 2, 2, 2, 2), (3, 2, 3, 1, 2), (3, 1, 1, 2, 1), (1, 3, 3, 1, 2), (1, 0, 0, 1, 1)],
)
def test_layer(device: str, subtract: bool, kernel: int, reach: int, pad: int, stride: int, step: int) -> None:  # noqa: PLR0917
    fields = {"kernel_size": kernel, "max_displacement": reach, "pad": pad, "stride_1": stride, "stride_2": step}
    text = " ".join(f"{name}: {value}" for name, value in fields.items())
    kind = "SUBTRACT" if subtract else "MULTIPLY"
    layer = make_layer(
        Correlation, f"correlation_param {{ {text} correlation_type: {kind} }}", BOTTOM, BOTTOM, device=device
    )
    a, b = noise(*BOTTOM, device=device), noise(*BOTTOM, device=device, seed=1)
    expected = correlated(a.detach().cpu().numpy(), b.detach().cpu().numpy(), fields, subtract)
    (top,) = run(layer, a, b)
    assert layer.infer_shapes(BOTTOM, BOTTOM) == [expected.shape]
    np.testing.assert_allclose(top.detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


@on_devices
@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
def test_gradients(device: str, kind: str) -> None:
    fields = f"kernel_size: 1 max_displacement: 1 pad: 1 correlation_type: {kind}"
    layer = make_layer(Correlation, f"correlation_param {{ {fields} }}", (1, 2, 2, 3), (1, 2, 2, 3), device=device)
    check_layer(layer, noise(1, 2, 2, 3, device=device), noise(1, 2, 2, 3, device=device, seed=1))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("max_displacement: 1", (BOTTOM, BOTTOM), "correlation_param.kernel_size is missing"),
        ("kernel_size: 1", (BOTTOM, BOTTOM), "correlation_param.max_displacement is missing"),
        ("kernel_size: 2 max_displacement: 1", (BOTTOM, BOTTOM), "expected an odd kernel_size"),
        ("kernel_size: 1 max_displacement: 1 stride_2: 0", (BOTTOM, BOTTOM), "strides of at least 1"),
        ("kernel_size: 1 max_displacement: 3", (BOTTOM, BOTTOM), "has no room for max_displacement 3"),
        ("kernel_size: 1 max_displacement: 1", (BOTTOM, (2, 3, 6, 6)), "expected the same"),
        ("kernel_size: 1 max_displacement: 1 single_direction: 1", (BOTTOM, BOTTOM), "is for Correlation1D"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Correlation, f"correlation_param {{ {fields} }}", *shapes)


def test_do_abs_draws_a_warning() -> None:
    with pytest.warns(UserWarning, match="do_abs has no effect, as in FlowNet"):
        make_layer(Correlation, "correlation_param { kernel_size: 1 max_displacement: 1 do_abs: true }", BOTTOM, BOTTOM)
