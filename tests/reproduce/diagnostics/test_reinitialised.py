"""One layer at a time back to its initial values."""

from contextlib import chdir
from pathlib import Path

import torch

from caffe_compat import Net, random
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.diagnostics.reinitialised import initial_values, reinitialised_accuracies
from reproduce.diagnostics.trained_network import TrainedNetwork
from tests.reproduce.diagnostics.tiny_run import BASE_A


def test_initial_values_are_those_of_the_seed(out: Path) -> None:
    folder = out / "half0A"
    seed = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter()).random_seed
    with chdir(folder), random.scope(seed):
        net = Net("train.prototxt", phase="TRAIN")
        net.close()
    found = initial_values(TrainedNetwork(BASE_A, out))
    assert {name: [i for i, _ in values] for name, values in found.items()} == {
        **{"one": [0, 1], "stretch": [0]},  # BatchNorm's running averages are not learned
        **{"two": [0, 1], "out": [0, 1]},
    }
    for name, values in found.items():
        for i, value in values:
            assert torch.equal(value, net.params[name][i])
    assert float(found["one"][0][1].std()) > 0.2  # drawn, not zero


def test_each_layer_alone_goes_back_and_comes_again(out: Path) -> None:
    trained = TrainedNetwork(BASE_A, out)
    initial = initial_values(trained)
    before = trained.accuracy()
    found = dict(reinitialised_accuracies(trained))
    assert list(found) == ["one", "two", "out"]
    assert trained.accuracy() == before
    for group in (("one", "stretch"), ("two",), ("out",)):
        by_hand = TrainedNetwork(BASE_A, out)
        for name in group:
            for i, value in initial[name]:
                by_hand.net.params[name][i].data.copy_(value)
        assert found[group[0]] == by_hand.accuracy()
    assert len({before, *found.values()}) > 1
