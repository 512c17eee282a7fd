import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import SharedMemory
from caffe_compat.layers.split import Split
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor

THREE_TOPS = 'top: "a" top: "b" top: "c"'


@on_devices
def test_every_top_is_the_bottom_and_gradients_add_up(device: str) -> None:
    layer = make_layer(Split, THREE_TOPS, (2,), device=device)
    bottom = tensor([1.0, -2.0], device)
    tops = run(layer, bottom)
    assert [top.tolist() for top in tops] == [[1.0, -2.0]] * 3
    diffs = [torch.tensor(values, dtype=torch.float64, device=device) for values in ([1, 2], [10, 20], [100, 200])]
    assert torch.autograd.grad(tops, bottom, diffs)[0].tolist() == [111, 222]


@on_devices
@pytest.mark.parametrize("tops", ["", THREE_TOPS])
def test_layer(device: str, tops: str) -> None:
    check_layer(make_layer(Split, tops, (2, 3), device=device), noise(2, 3, device=device))


def test_shares_the_values_but_not_the_gradients() -> None:
    layer = make_layer(Split, THREE_TOPS, (2,))
    assert layer.shared_memory(need_backward=True) == SharedMemory(since="forward", diff="added")
    assert layer.is_split


def test_refuses_to_work_in_place() -> None:
    with pytest.raises(NetError, match="cannot work in place; give every top a name of its own"):
        make_layer(Split, 'bottom: "x" top: "y" top: "x"', (2,))
