"""A net that trains made one that is deployed."""

from caffe_compat.layers.base import LayerContext
from caffe_compat.net.deploy import deploy
from caffe_compat.net.graph import Graph
from caffe_compat.net.phase_rules import filter_net, phase_value
from caffe_compat.net.splits import insert_splits
from caffe_compat.proto import Source, parse_net

DATA = """layer { name: "data" type: "DummyData" top: "data" top: "label"
    dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }"""


def layer(layer_type: str, name: str, bottoms: str, tops: str = "", fields: str = "") -> str:
    names = " ".join(f'bottom: "{blob}"' for blob in bottoms.split())
    names += "".join(f' top: "{blob}"' for blob in (tops or name).split()) if tops != "-" else ""
    return f'layer {{ name: "{name}" type: "{layer_type}" {names} {fields} }}'


def fc(name: str, bottom: str = "data") -> str:
    return layer("InnerProduct", name, bottom, fields="inner_product_param { num_output: 2 }")


def deployed(text: str) -> tuple[list[str], list[str]]:
    """Layers as ``name: bottoms > tops``, and what became of the others."""
    full = parse_net(text)
    full.state.phase = phase_value("TEST")
    source = Source("net.prototxt")
    param = filter_net(full, source)
    graph = Graph(insert_splits(param, source), LayerContext(phase="TEST", source=source, shapes_only=True))
    result = deploy(param, graph)
    Graph(insert_splits(result.param, source), LayerContext(phase="TEST", source=source, shapes_only=True))
    layers = [
        f"{layer.name} {layer.type}: {' '.join(layer.bottom)} > {' '.join(layer.top)}" for layer in result.param.layer
    ]
    return layers, result.changes


def test_classifier() -> None:
    text = DATA + fc("ip") + layer("SoftmaxWithLoss", "loss", "ip label") + layer("Accuracy", "top1", "ip label")
    layers, changes = deployed(text)
    assert layers == ["data Input:  > data", "ip InnerProduct: data > ip", "prob Softmax: ip > prob"]
    assert changes == [
        "data (DummyData) is an Input, data 4x3",
        "data (DummyData) has no label",
        "loss (SoftmaxWithLoss) is prob (Softmax)",
        "top1 (Accuracy) is dropped",
    ]


def test_several_heads_have_names_of_their_own() -> None:
    text = (
        DATA
        + fc("a")
        + fc("b")
        + layer("SoftmaxWithLoss", "loss", "a label")
        + layer("SoftmaxWithLoss", "prob", "b label")
    )
    layers, _ = deployed(text)
    assert layers[-2:] == ["a_prob Softmax: a > a_prob", "b_prob Softmax: b > b_prob"]


def test_axis_and_targets() -> None:
    text = DATA.replace("dim: 3 }", "dim: 3 dim: 5 dim: 5 }").replace(
        "shape { dim: 4 } }", "shape { dim: 4 dim: 5 dim: 5 } }"
    )
    text += layer("Convolution", "score", "data", fields="convolution_param { num_output: 2 kernel_size: 1 }")
    text += layer("Power", "shifted", "label", fields="power_param { shift: 1 }")
    text += layer("SoftmaxWithLoss", "loss", "score shifted", fields="softmax_param { axis: -3 }")
    text += layer("Power", "scaled", "loss", fields="power_param { scale: 2 }")
    layers, changes = deployed(text)
    assert layers == ["data Input:  > data", "score Convolution: data > score", "prob Softmax: score > prob"]
    assert changes[-2:] == ["shifted (Power) is dropped", "scaled (Power) is dropped"]


def test_a_regression_keeps_its_prediction_and_what_it_is_made_of() -> None:
    text = DATA + fc("code") + layer("InnerProduct", "out", "code", fields="inner_product_param { num_output: 3 }")
    text += layer("Sigmoid", "decoded", "out") + layer("EuclideanLoss", "loss", "decoded data")
    layers, _ = deployed(text)
    assert layers[-1] == "decoded Sigmoid: out > decoded"
    assert layers[0] == "data Input:  > data"
    layers, _ = deployed(
        text.replace("EuclideanLoss", "SigmoidCrossEntropyLoss").replace(
            '"decoded" bottom: "data"', '"out" bottom: "data"'
        )
    )
    assert layers[-2:] == ["decoded Sigmoid: out > decoded", "prob Sigmoid: out > prob"]


def test_silence() -> None:
    text = DATA + fc("ip") + fc("unused") + layer("Silence", "s", "label unused", "-")
    layers, changes = deployed(text)
    assert layers[-1] == "s Silence: unused > "
    assert changes == ["data (DummyData) is an Input, data 4x3", "data (DummyData) has no label"]


def test_what_only_trains_is_left_out() -> None:
    fields = "param { lr_mult: 2 } include { phase: TEST } inner_product_param { num_output: 2 }"
    shared = 'param { name: "w" lr_mult: 2 } inner_product_param { num_output: 2 bias_term: false }'
    text = DATA + layer("InnerProduct", "a", "data", fields=fields) + layer("InnerProduct", "b", "data", fields=shared)
    full = parse_net(text)
    full.state.phase = phase_value("TEST")
    param = filter_net(full, Source("net.prototxt"))
    graph = Graph(insert_splits(param, Source("net.prototxt")), LayerContext(phase="TEST", shapes_only=True))
    _, a, b = deploy(param, graph).param.layer
    assert (len(a.param), len(a.include), b.param[0].name) == (0, 0, "w")


def test_layers_that_train_detectors() -> None:
    """An annotator of hard examples goes with the losses, and what stands for their probabilities stays."""
    text = DATA + fc("score") + fc("box")
    text += layer("SoftmaxWithLossOHEM", "each", "score label", "each")
    text += layer("SegAccuracy", "measure", "score label")
    layers, changes = deployed(text)
    assert layers[-1] == "prob Softmax: score > prob"
    assert "measure (SegAccuracy) is dropped" in changes
