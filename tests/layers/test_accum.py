import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.accum import Accum
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run
from tests.layers.onnx_form import check_onnx, numbers
from tests.layers.test_interp import interpolated

SHAPES = ((2, 1, 3, 4), (2, 1, 4, 2))


@on_devices
@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("", (4, 4)),
        ("top_height: 5 top_width: 6", (5, 6)),
        ("top_height: 6 top_width: 4", (4, 4)),  # both must be larger than the largest
        ("size_divisible_by: 3", (6, 6)),
        ("size_divisible_by: 4", (4, 4)),
    ],
)
def test_layer(device: str, fields: str, sizes: tuple[int, int]) -> None:
    layer = make_layer(Accum, f"accum_param {{ {fields} }}", *SHAPES, device=device)
    bottoms = [noise(*shape, device=device, seed=i) for i, shape in enumerate(SHAPES)]
    expected = np.concatenate([interpolated(bottom, *sizes) for bottom in bottoms], 1)
    np.testing.assert_allclose(run(layer, *bottoms)[0].detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


@on_devices
def test_a_reference_gives_its_size_only(device: str) -> None:
    layer = make_layer(Accum, "accum_param { have_reference: true }", *SHAPES, device=device)
    bottoms = [noise(*shape, device=device, seed=i) for i, shape in enumerate(SHAPES)]
    check_layer(layer, bottoms[0], bottoms[1].detach())
    (top,) = run(layer, *bottoms)
    expected = interpolated(bottoms[0], 4, 2)
    np.testing.assert_allclose(top.detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("have_reference: true", SHAPES[:1], "expected at least 2 bottoms"),
        ("size_divisible_by: 0", SHAPES, "size_divisible_by is 0"),
        ("", ((2, 1, 3, 3), (1, 1, 3, 3)), "bottom 1 has shape"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Accum, f"accum_param {{ {fields} }}", *shapes)


@pytest.mark.parametrize("fields", ["", "top_height: 6 top_width: 7", "have_reference: true"])
def test_onnx(fields: str) -> None:
    check_onnx(f'type: "Accum" accum_param {{ {fields} }}', *(numbers(*shape) for shape in SHAPES))
