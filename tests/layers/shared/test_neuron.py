import warnings

import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.base import LayerContext
from caffe_compat.layers.shared.neuron import NeuronLayer, is_in_place, refuse_in_place, warn_in_place_gradient
from caffe_compat.proto import caffe_pb2


def neuron(bottom: str, top: str, phase: str = "TRAIN") -> NeuronLayer:
    param = caffe_pb2.LayerParameter(name="it", bottom=[bottom] if bottom else [], top=[top] if top else [])
    return NeuronLayer(param, LayerContext(phase=phase))


def test_top_has_the_bottoms_shape() -> None:
    for shape in ((), (0, 3), (2, 3, 4)):
        assert neuron("x", "y").infer_shapes(shape) == [shape]


def test_is_in_place() -> None:
    assert is_in_place(neuron("x", "x"))
    assert not is_in_place(neuron("x", "y"))
    assert not is_in_place(neuron("", "y"))
    assert not is_in_place(neuron("x", ""))


def test_refuse_in_place() -> None:
    refuse_in_place(neuron("x", "y"))
    with pytest.raises(NetError, match=r'top "x" is the bottom too; .* cannot work in place, rename the top'):
        refuse_in_place(neuron("x", "x"))


def test_warn_in_place_gradient_in_training_only() -> None:
    with pytest.warns(UserWarning, match="its gradient in place is not that of .*; rename the top"):
        warn_in_place_gradient(neuron("x", "x"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_in_place_gradient(neuron("x", "x", phase="TEST"))
        warn_in_place_gradient(neuron("x", "y"))
