import numpy as np

from caffe_compat import Net
from caffe_compat.proto import parse_net
from caffe_compat.tools._noise import noise_inputs


def net(*inputs: tuple[str, str], layers: str = "") -> Net:
    """A net with Inputs of these names and dims."""
    heads = (
        f'layer {{ name: "in_{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        for name, dims in inputs
    )
    return Net(parse_net("".join(heads) + layers), phase="TEST")


DATA = ("x", "dim: 400 dim: 5")
LABEL = ("label", "dim: 400")


def test_ordinary_inputs_are_normal_numbers() -> None:
    values = noise_inputs(net(DATA))["x"]
    assert values.shape == (400, 5)
    assert values.dtype == np.float32
    assert abs(values.mean()) < 0.1  # 4.5 standard deviations of the mean of 2000
    assert abs(values.std() - 1) < 0.1


def test_depend_on_the_seed_only() -> None:
    assert np.array_equal(noise_inputs(net(DATA), 3)["x"], noise_inputs(net(DATA), 3)["x"])
    assert not np.array_equal(noise_inputs(net(DATA), 3)["x"], noise_inputs(net(DATA), 4)["x"])


def test_labels_are_classes() -> None:
    loss = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "l" }'
    assert sorted(set(noise_inputs(net(DATA, LABEL, layers=loss))["label"].tolist())) == [0, 1, 2, 3, 4]


def test_the_smallest_limit_of_several_readers_counts_also_behind_a_reshape() -> None:
    layers = """
    layer { name: "flat" type: "Flatten" bottom: "label" top: "flat" flatten_param { axis: 0 } }
    layer { name: "e" type: "Embed" bottom: "flat" top: "e" embed_param { input_dim: 3 num_output: 2 } }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "flat" top: "l" }
    """
    assert sorted(set(noise_inputs(net(DATA, LABEL, layers=layers))["label"].tolist())) == [0, 1, 2]


def test_a_reader_that_takes_any_number_does_not_lift_the_limit() -> None:
    layers = """
    layer { name: "e" type: "Embed" bottom: "label" top: "e" embed_param { input_dim: 3 num_output: 2 } }
    layer { name: "p" type: "Power" bottom: "label" top: "p" }
    """
    values = noise_inputs(net(LABEL, layers=layers))["label"]
    assert sorted(set(values.tolist())) == [0, 1, 2]
