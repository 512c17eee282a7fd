import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.scale_route import ScaleRoute
from tests.layers.harness import make_layer, on_devices, run, tensor

# Sizes 10, 20, 40, 30 (45 by 20), and one turned inside out, of size 0.
ROIS = [[0, 0, 0, 9, 9], [1, 5, 5, 24, 24], [0, 1, 1, 40, 40], [1, 0, 0, 44, 19], [0, 9, 9, 3, 3]]


@on_devices
@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("low_scale: 20", [1, 2, 3]),
        ("high_scale: 20", [0, 4]),
        ("low_scale: 20 high_scale: 30", [1]),
        ("low_scale: 11 high_scale: 12", [0]),  # none: the nearest to 11.5
        ("low_scale: 100", [2]),
        ("low_scale: 23 high_scale: 26", [1]),  # 24.45: 20 is at 0.29 of an octave, 30 at 0.295
    ],
)
def test_layer(device: str, fields: str, chosen: list[int]) -> None:
    text = f'top: "a" top: "b" scale_route_param {{ {fields} }}'
    layer = make_layer(ScaleRoute, text, (5, 5, 1, 1), (5, 2), device=device)
    rois, others = tensor(ROIS, device).view(5, 5, 1, 1), tensor([[i, -i] for i in range(5)], device)
    a, b = run(layer, rois, others)
    assert torch.equal(a, rois[chosen])
    assert torch.equal(b, others[chosen])
    assert not a.requires_grad
    assert layer.infer_shapes((5, 5, 1, 1), (5, 2)) == [(1, 5, 1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("low_scale: 3 high_scale: 2", ((5, 5),), "expected two above 0, in order"),
        ("low_scale: 0", ((5, 5),), "expected two above 0, in order"),
        ("", ((5, 4),), r"expected \(R, 5\) and \(R, ...\)"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(ScaleRoute, f"scale_route_param {{ {fields} }}", *shapes)
