import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.proto import caffe_pb2
from tests.layers.harness import on_devices

LAYER = Layer(caffe_pb2.LayerParameter(name="it"))


@on_devices
def test_rounded_towards_zero(device: str) -> None:
    found = to_indices(LAYER, torch.tensor([0.0, 2.9, 1.5, -0.9], device=device), 3, "row")
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 2, 1, 0]


def test_takes_no_gradient_and_no_values_at_all() -> None:
    values = torch.zeros(2, requires_grad=True)
    assert not to_indices(LAYER, values, 1, "row").requires_grad
    assert to_indices(LAYER, torch.zeros(0), 0, "row").tolist() == []


@pytest.mark.parametrize(("value", "shown"), [(3.0, 3), (-1.0, -1)])
def test_out_of_range(value: float, shown: int) -> None:
    with pytest.raises(NetError, match=f'layer "it" .*: label {shown} is out of range; expected 0 to 2'):
        to_indices(LAYER, torch.tensor([0.0, value]), 3, "label")
