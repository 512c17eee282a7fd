import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.batch_reindex import BatchReindex
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(BatchReindex, "", (4, 3, 2), (5,), device=device)
    bottom, index = noise(4, 3, 2, device=device), tensor([3, 0, 0, 2, 3], device).detach()
    check_layer(layer, bottom, index)
    assert torch.equal(run(layer, bottom, index)[0], bottom[[3, 0, 0, 2, 3]])


@pytest.mark.parametrize("index", [-1.0, 4.0])
def test_refuses_an_index_outside_the_batch(index: float) -> None:
    layer = make_layer(BatchReindex, "", (4, 3), (1,))
    with pytest.raises(NetError, match="out of range; expected 0 to 3"):
        run(layer, noise(4, 3), tensor([index]))


def test_refuses_a_second_axis() -> None:
    with pytest.raises(NetError, match=r"expected \(N, ...\) and \(M,\)"):
        make_layer(BatchReindex, "", (4, 3), (5, 1))
