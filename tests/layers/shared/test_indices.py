import subprocess
import sys

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import caffe_pb2
from tests.layers.harness import make_layer, on_devices, run

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


def test_says_which_value_of_which_bottom_and_what_to_do() -> None:
    layer = Layer(caffe_pb2.LayerParameter(name="loss", bottom=["ip", "label"]))
    with pytest.raises(NetError) as caught:
        to_indices(layer, torch.tensor([[0.0, 2.0], [-5.0, 3.0]]), 3, "label")
    assert str(caught.value).partition("): ")[2] == (
        'label -5 is out of range; expected 0 to 2 (bottom "label", value 3 of 4); '
        "correct the labels, or give the layer that makes the scores an output for each class"
    )


def test_nan_is_no_label() -> None:
    with pytest.raises(NetError, match="label nan is out of range; expected 0 to 2"):
        to_indices(LAYER, torch.tensor([0.0, float("nan")]), 3, "label")


EXAMPLES = 12
#: layers whose whole numbers are flags: what is not 0 is true (or a factor), and no memory is looked up by it
FLAGS = {"ContrastiveLoss", "Filter", "LSTM", "LSTMUnit", "Lstm", "RNN"}


def examples(layer_type: str) -> list[tuple[Layer, Example, dict[int, int]]]:
    """Random layers of a type, with bottoms and the limits of those that hold whole numbers."""
    found = []
    for number in range(EXAMPLES):
        example = layer_types()[layer_type].example(Dice(layer_type, number))
        shapes = [np.shape(bottom) for bottom in example.bottoms]
        tops = " ".join(f'top: "y{i}"' for i in range(example.tops))
        layer = make_layer(layer_types()[layer_type], f"{tops} {example.fields}", *shapes)
        found.append((layer, example, layer.index_limits(*shapes)))
    return found


def readers_of_indices() -> list[str]:
    """All registered types that declare bottoms with whole numbers."""
    types = {name: cls for name, cls in layer_types().items() if cls.__module__.startswith("caffe_compat.")}
    return sorted(name for name, cls in types.items() if cls.index_limits is not Layer.index_limits)


def test_the_sweep_finds_them() -> None:
    assert {"SoftmaxWithLoss", "Accuracy", "HingeLoss", "InfogainLoss", "Embed", *FLAGS} <= set(readers_of_indices())


@pytest.mark.parametrize("layer_type", readers_of_indices())
@pytest.mark.parametrize("below", [False, True])
def test_every_layer_refuses_or_takes_any_flag(layer_type: str, below: bool) -> None:
    for layer, example, limits in examples(layer_type):
        for bottom, limit in limits.items():
            values = [torch.from_numpy(np.array(value, np.float64)) for value in example.bottoms]
            wrong = -7 if below else limit
            values[bottom].view(-1)[-1] = wrong
            if layer_type in FLAGS:
                assert all(bool(top.isfinite().all()) for top in run(layer, *values))
                continue
            with pytest.raises(NetError, match=rf'"it" .*{wrong} is out of range; expected 0 to {limit - 1} .*"x'):
                run(layer, *values)


@pytest.mark.parametrize("layer_type", readers_of_indices())
def test_the_largest_number_is_taken(layer_type: str) -> None:
    for layer, example, limits in examples(layer_type):
        values = [torch.from_numpy(np.array(value, np.float64)) for value in example.bottoms]
        for bottom, limit in limits.items():
            values[bottom].fill_(limit - 1)
        run(layer, *values)


ON_CUDA = """
import torch
from caffe_compat.layers.base import Layer
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.proto import caffe_pb2

layer = Layer(caffe_pb2.LayerParameter(name="loss", bottom=["ip", "label"]))
to_indices(layer, torch.tensor([0.0, 2.0], device="cuda"), 3, "label")
torch.cuda.synchronize()
print("fine", flush=True)
to_indices(layer, torch.tensor([0.0, 3.0], device="cuda"), 3, "label")
torch.cuda.synchronize()
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_device_stops_and_says_where() -> None:
    # In a process of its own: nothing runs on the device after a failed check.
    done = subprocess.run([sys.executable, "-c", ON_CUDA], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n"
    assert done.returncode == 1
    assert 'bottom "label": label out of range; expected 0 to 2' in done.stderr
