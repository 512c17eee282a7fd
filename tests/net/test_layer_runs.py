"""What a backward pass reads: the blobs as they are now, or what the forward kept, type by type as in Caffe."""

import pytest
import torch

from caffe_compat.net.layer_types import layer_types
from tests.net.test_blob_engine import IN, Engine, power

X = [[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]]
ONES = [[1.0] * 3] * 2
PLANE = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 1 dim: 2 } } }\n'


def layer(kind: str, extra: str = "", bottom: str = "x") -> str:
    return f'layer {{ name: "l" type: "{kind}" bottom: "{bottom}" top: "y" {extra} }}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (layer("ReLU"), [[0, 1, 0], [1, 0, 1]]),  # by the bottom, whose signs were turned
        (layer("AbsVal"), [[-1, 1, -1], [1, -1, 1]]),
        (layer("Power", "power_param { power: 2 }"), [[-2, 4, -6], [8, -10, 12]]),
        (layer("Sigmoid"), [[-6.0] * 3] * 2),  # by the top: 3 (1 - 3)
        (layer("TanH"), [[-8.0] * 3] * 2),
        (layer("Exp"), [[3.0] * 3] * 2),
        (layer("ELU", "elu_param { alpha: 2 }"), [[5, 1, 5], [1, 5, 1]]),
        (layer("Softmax"), [[-24.0] * 3] * 2),  # (1 - 9) 3
    ],
)
def test_elementwise_layers_read_the_blobs_as_they_are_now(text: str, expected: list[list[float]]) -> None:
    e = Engine(IN + text)
    e.set("x", X)
    e.engine.forward()
    e.blob("x").host_data()[...] = -torch.tensor(X).numpy()
    e.blob("y").host_data()[...] = 3
    e.set("y", ONES, diff=True)
    e.engine.backward()
    assert torch.allclose(e.blob("x").diff, torch.tensor(expected, dtype=torch.float32))


def test_a_product_reads_the_weights_and_the_data_of_now() -> None:
    fc = layer("InnerProduct", "inner_product_param { num_output: 2 bias_term: false }")
    e = Engine(IN + fc)
    e.engine.forward()
    e.blob("x").host_data()[...] = X
    e.param("l").host_data()[...] = [[1, 2, 3], [4, 5, 6]]
    e.set("y", [[1.0, 0], [0, 1.0]], diff=True)
    e.engine.backward()
    assert e.diff("x") == [[1, 2, 3], [4, 5, 6]]
    assert e.param("l").diff.tolist() == X
    with torch.no_grad():
        e.param("l").parameter.mul_(2)  # what a solver or copy_from does
    e.engine.backward()
    assert e.diff("x") == [[2, 4, 6], [8, 10, 12]]


def test_max_pooling_keeps_its_maxima() -> None:
    e = Engine(PLANE + layer("Pooling", "pooling_param { kernel_h: 1 kernel_w: 2 }"))
    e.set("x", [[[[1.0, 2.0]], [[4.0, 3.0]], [[5.0, 6.0]]]])
    e.engine.forward()
    e.blob("x").host_data()[...] = [[[[9, 0]], [[0, 9]], [[9, 0]]]]
    e.blob("y").diff.fill_(1)
    e.engine.backward()
    assert e.blob("x").diff.flatten().tolist() == [0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("shared", [False, True])
def test_a_softmax_loss_keeps_its_probabilities_and_reads_its_labels(shared: bool) -> None:
    label = 'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 } } }\n'
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "p" bottom: "t" top: "loss" }\n'
    e = Engine(IN + label + power("p", "x", "p", 1) + loss)
    e.engine.forward()
    e.blob("p").host_data()[...] = 50  # the probabilities of the forward are 1/3
    if shared:
        e.blob("t").host_data()[...] = [2, 1]
    e.engine.backward()
    third = 1 / 3
    expected = torch.full((2, 3), third)
    for row, column in enumerate([2, 1] if shared else [0, 0]):
        expected[row, column] -= 1
    assert torch.allclose(e.blob("p").diff, expected / 2)


def test_lrn_reads_its_blobs_but_keeps_its_scale() -> None:
    lrn = layer("LRN", "lrn_param { local_size: 3 alpha: 3 beta: 1 }")
    e = Engine(PLANE + lrn)
    e.set("x", [[[[1.0, 0.0]], [[2.0, 0.0]], [[0.0, 0.0]]]])
    e.engine.forward()
    # scale 1 + the sum of squares of the neighbouring channels: 6, 6, 5
    assert e.blob("y").data[0, :, 0, 0].tolist() == pytest.approx([1 / 6, 2 / 6, 0])
    e.blob("y").host_data()[...] = 6
    e.blob("x").host_data()[...] = 1
    e.blob("y").diff.fill_(1)
    e.engine.backward()
    # diff / scale - 2 x sum(diff y / scale) over the window
    assert e.blob("x").diff[0, :, 0, 0].tolist() == pytest.approx(
        [1 / 6 - 2 * 2, 1 / 6 - 2 * (2 + 6 / 5), 1 / 5 - 2 * (1 + 6 / 5)], rel=1e-5
    )


def test_formulas_give_autograds_gradients() -> None:
    """With nothing written in between, both ways must agree, for every type that has a formula."""
    kinds = [name for name, kind in layer_types().items() if "gradient_now" in vars(kind)]
    assert len(kinds) >= 7
    for kind in kinds:
        e = Engine(PLANE + layer(kind))
        e.set("x", [[[[0.5, -1.0]], [[2.0, -0.25]], [[1.5, -3.0]]]])
        e.engine.forward()
        diff = torch.tensor([[[[1.0, -2.0]], [[0.5, 3.0]], [[-1.0, 0.25]]]])
        e.set("y", diff.tolist(), diff=True)
        e.engine.backward()
        x = e.blob("x").data.clone().requires_grad_()
        (expected,) = torch.autograd.grad(e.net.layers["l"](x), x, diff)
        assert torch.allclose(e.blob("x").diff, expected, atol=1e-6), kind
        e.blob("x").host_data()  # LRN takes its formula only where somebody may have written
        e.engine.forward()
        e.engine.backward()
        assert torch.allclose(e.blob("x").diff, expected, atol=1e-6), kind


def test_what_nobody_reads_is_not_copied() -> None:
    e = Engine(IN + power("p", "x", "p", 2) + power("q", "p", "q", 3))
    e.engine.forward()
    first = e.blob("q").data_memory.read()
    e.engine.forward()
    assert e.blob("q").data_memory.read() is not first, "the layer's own result is the blob's memory"
    array = e.blob("q").host_data()
    e.set("x", X)
    e.engine.forward()
    assert array.tolist() == [[6, -12, 18], [-24, 30, -36]], "an array that a caller has shows every later pass"
