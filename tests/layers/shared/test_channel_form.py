"""Channel forms: what they compute, how two become one, and that each layer's form is what the layer does."""

import math

import pytest
import torch
from google.protobuf import text_format

from caffe_compat.layers.base import LayerContext
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import caffe_pb2

EXAMPLES = 12
TOLERANCE = 1e-12  # float64; rsqrt and a division differ from the layer's own order

X = torch.tensor([[[-3.0, 2.0], [math.nan, 5.0]], [[0.0, -1.0], [4.0, -2.0]]], dtype=torch.float64)  # (2, 2, 2)


def double(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_order_of_the_steps() -> None:
    form = ChannelForm(double(2, -1), double(1, 0), double(0.5), floor=-1.0, ceiling=4.0)
    expected = [[[-1.0, 4.0], [math.nan, -1.0]], [[1.0, -0.5], [-1.0, 2.0]]]
    torch.testing.assert_close(form.apply(X), torch.tensor(expected, dtype=torch.float64), equal_nan=True)


def test_two_forms_as_one() -> None:
    first = ChannelForm(double(2, 3), double(1, -1))
    for second in (
        ChannelForm(double(-1, 0.5), double(3, 0)),
        ChannelForm(double(4)),
        ChannelForm(shift=double(1, 2), floor=0.0),
        ChannelForm(slopes=double(0.1, 0.2)),
    ):
        joined = second.after(first)
        assert joined is not None
        torch.testing.assert_close(joined.apply(X), second.apply(first.apply(X)), equal_nan=True)
    assert ChannelForm(double(2)).after(ChannelForm(floor=0.0)) is None


def test_forms_of_layers_are_what_they_compute() -> None:
    found = set()
    for name, cls in layer_types().items():
        if cls.is_source or not cls.__module__.startswith("caffe_compat."):
            continue
        for number in range(EXAMPLES):
            dice = Dice(name, number)
            example = cls.example(dice)
            param = caffe_pb2.LayerParameter(
                name="it", type=name, bottom=[f"b{i}" for i in range(len(example.bottoms))], top=["top"]
            )
            text_format.Merge(example.fields, param)
            if example.tops > 1 or "phase" in example.fields:
                continue
            layer = cls(param, LayerContext(phase="TEST", dtype=torch.float64))
            bottoms = [torch.as_tensor(bottom).double() for bottom in example.bottoms]
            try:
                layer.setup(*(tuple(bottom.shape) for bottom in bottoms))
            except Exception:  # another draw's fields need what is not here (two tops, a file)
                continue
            with torch.no_grad():
                for blob in layer.blobs:
                    blob.copy_(torch.as_tensor(dice.positive(*blob.shape)))
            form = layer.channel_form(*(tuple(bottom.shape) for bottom in bottoms))
            if form is not None and bottoms[0].dim() >= 2:
                found.add(name)
                torch.testing.assert_close(
                    form.apply(bottoms[0]), layer(*bottoms).detach(), rtol=TOLERANCE, atol=TOLERANCE
                )
    assert found >= {"BatchNorm", "Scale", "Bias", "ReLU", "ReLU6", "PReLU"}


@pytest.mark.parametrize(("axis", "shape"), [(1, "dim: 1"), (0, "")])
def test_a_scale_of_other_axes_has_none(axis: int, shape: str) -> None:
    param = caffe_pb2.LayerParameter(name="it", type="Scale", bottom=["x"], top=["y"])
    text_format.Merge(f"scale_param {{ axis: {axis} num_axes: 2 }}", param)
    layer = layer_types()["Scale"](param, LayerContext(phase="TEST"))
    layer.setup((2, 3, 4))
    assert layer.channel_form((2, 3, 4)) is None
