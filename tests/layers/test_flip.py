import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.flip import Flip
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

SHAPE = (2, 3, 4, 5)


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(Flip, "flip_param { flip_height: true }", SHAPE, device=device)
    check_layer(layer, noise(*SHAPE, device=device))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", [[3, 2, 1], [6, 5, 4]]),
        ("flip_width: false flip_height: true", [[4, 5, 6], [1, 2, 3]]),
        ("flip_height: true", [[6, 5, 4], [3, 2, 1]]),
        ("flip_width: false", [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_values(fields: str, expected: list[list[float]]) -> None:
    layer = make_layer(Flip, f"flip_param {{ {fields} }}", (1, 1, 2, 3))
    top = run(layer, tensor([[[[1, 2, 3], [4, 5, 6]]]]))[0]
    assert torch.equal(top[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_refuses_other_shapes() -> None:
    with pytest.raises(NetError, match=r"bottom has shape \(2, 3\); expected \(N, C, H, W\)"):
        make_layer(Flip, "", (2, 3))
