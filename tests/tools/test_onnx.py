"""ONNX graphs against our own nets: every golden net whose layers have ONNX forms, and random examples of types."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.shared.example import Dice
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import parse_net
from caffe_compat.tools._exported import run_exported
from caffe_compat.tools._golden import find_cases, relative_error
from caffe_compat.tools._noise import noise_inputs

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from caffe_compat.tools._onnx import to_onnx  # noqa: E402  (needs onnx)
from tests.onnx_harness import check_same, net_of, randomize, run_model  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
#: other kernels add up in another order
TOLERANCE = 1e-5
#: a few layers in float16, which rounds each value to 5e-4 of itself
HALF_TOLERANCE = 5e-3


def convertible() -> list[Path]:
    """Golden nets without layers that have no ONNX form."""
    cases = []
    for case in find_cases(GOLDEN, ("net",)):
        net = Net(case / "net.prototxt", phase="TEST")
        if all(step.layer.is_input or step.layer.has_onnx_form() for step in net.steps):
            cases.append(case)
    return cases


@pytest.mark.filterwarnings("ignore:.*(overwrites bottom 0|has no clip_param)")
@pytest.mark.parametrize("case", convertible(), ids=lambda path: path.name)
def test_same_numbers(case: Path) -> None:
    net = Net(case / "net.prototxt", phase="TEST").eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.1)
    inputs = noise_inputs(net)
    if case.name.startswith("log_"):
        inputs = {name: np.abs(value) + np.float32(0.1) for name, value in inputs.items()}
    with torch.no_grad():
        expected = net(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    session = onnxruntime.InferenceSession(to_onnx(net).SerializeToString())
    wanted = {value.name for value in session.get_inputs()}
    found = session.run(net.outputs, {name: value for name, value in inputs.items() if name in wanted})
    for name, value in zip(net.outputs, found, strict=True):
        assert relative_error(value, expected[name].numpy()) <= TOLERANCE, name


def test_all_layers_without_a_form_are_named() -> None:
    net = Net(GOLDEN / "nets" / "caffenet_mini" / "net.prototxt", phase="TEST")
    with pytest.raises(NetError, match=r'"loss" \(SoftmaxWithLoss\), "accuracy" \(Accuracy\); .*: --deploy makes one'):
        to_onnx(net)


def test_why_a_layer_has_no_form() -> None:
    net = net_of('layer { name: "crf" type: "Nms" bottom: "x" top: "y" }', x=(1, 15, 5, 5))
    message = (
        r"\(Nms: ONNX has no operator for the centres of peaks\); convert the net up to the bottoms of such a layer"
    )
    with pytest.raises(NetError, match=message):
        to_onnx(net)
    # Our own layers: other tests register theirs in this process, too.
    ours = {kind for kind in layer_types().values() if kind.__module__.startswith("caffe_compat.")}
    told = {kind for kind in ours if kind.onnx_obstacle}
    assert {kind.type for kind in told if kind.to_onnx is not Layer.to_onnx} == {
        "Python"
    }  # the user's class may have one
    # Losses, scores and files: a net that is deployed has none.
    scores = {"Accuracy", "BoxAnnotatorOHEM"}
    silent = {
        kind.type
        for kind in ours - told
        if kind.to_onnx is Layer.to_onnx and not (kind.is_loss or kind.is_source or kind.writes_files)
    }
    assert {name for name in silent - scores if "Evaluate" not in name and "Accuracy" not in name} == set()


@pytest.mark.parametrize("top", ["fc", "fc/1", "fc/2", "fc/3", "fc/4", "fc/5", "fc/6"])
def test_a_blob_may_have_the_name_of_a_value(top: str, tmp_path: Path) -> None:
    text = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 2 } } }'
    fields = 'bottom: "data" inner_product_param { num_output: 1 }'
    text += f'layer {{ name: "fc" type: "InnerProduct" top: "{top}" {fields} }}'
    net = Net(parse_net(text), phase="TEST")
    net.params["fc"][0].data.fill_(2)
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net).SerializeToString())
    assert run_exported(path, {"data": np.ones((1, 2, 2), np.float32)}) == {top: [[8]]}


def test_an_output_may_be_an_input_in_place(tmp_path: Path) -> None:
    text = 'layer { name: "in" type: "Input" top: "data" top: "unread" input_param { shape { dim: 2 } } }'
    net = Net(parse_net(text + 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" }'), phase="TEST")
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net).SerializeToString())
    inputs = {"data": np.array([-1, 2], np.float32), "unread": np.array([-3, 4], np.float32)}
    found = run_exported(path, inputs)
    assert {name: value.tolist() for name, value in found.items()} == {"data": [0, 2], "unread": [-3, 4]}


TYPES = sorted(
    name
    for name, kind in layer_types().items()
    if kind.to_onnx is not Layer.to_onnx and not kind.is_source and kind.top_count[1] != 0 and name != "Python"
)


#: examples of forms that ONNX cannot say: docs/onnx.md tells why
REFUSED = {("DetectionOutput", 2), ("Lstm", 0), ("ROIAlign", 1)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("layer_type", TYPES)
def test_random_examples(layer_type: str, number: int) -> None:
    net, blobs, positive = example_net(layer_type, number)
    if (layer_type, number) in REFUSED:
        with pytest.raises(NetError, match="has no ONNX form"):
            to_onnx(net)
        return
    check_same(randomize(net, 0.1 if positive else -0.5), blobs)


def example_net(layer_type: str, number: int) -> tuple[Net, dict[str, np.ndarray], bool]:
    """A net of a random layer, its bottoms, and whether its parameters have to be positive."""
    example = layer_types()[layer_type].example(Dice(layer_type, number))
    blobs = {f"x{i}": value for i, value in enumerate(example.bottoms)}
    bottoms = " ".join(f'bottom: "{name}"' for name in blobs)
    tops = " ".join(f'top: "y{i}"' for i in range(example.tops))
    with random.scope(number):
        text = f'layer {{ name: "it" type: "{layer_type}" {bottoms} {tops} {example.fields} }}'
        return net_of(text, **{name: value.shape for name, value in blobs.items()}), blobs, example.positive_blobs


def test_a_net_without_an_output_is_refused() -> None:
    """As Colorization's: its last layer is a Silence."""
    net = net_of('layer { name: "quiet" type: "Silence" bottom: "data" }', data=(1, 2))
    with pytest.raises(NetError, match=r'no output to convert; delete the layer "quiet" \(Silence\), which reads it'):
        to_onnx(net)


#: what NVIDIA lists for TensorRT 10.0 (docs/operators.md of onnx-tensorrt, June 2024)
TENSORRT = frozenset((GOLDEN / "tensorrt_operators.txt").read_text().split())
#: what TensorRT lacks, by layer type: docs/onnx.md tells
NOT_TENSORRT = {"Pooling": {"mask"}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer_type", TYPES)
def test_operators_are_tensorrts(layer_type: str) -> None:
    """By its list: nothing here can run TensorRT."""
    used = set()
    for number in range(2):
        if (layer_type, number) in REFUSED:
            continue
        model = to_onnx(example_net(layer_type, number)[0])
        for graph in (model.graph, *(a.g for node in model.graph.node for a in node.attribute if a.HasField("g"))):
            used |= {node.op_type for node in graph.node}
            used |= {"mask" for node in graph.node if node.op_type == "MaxPool" and len(node.output) > 1}
    assert used - TENSORRT <= NOT_TENSORRT.get(layer_type, set())


CHAIN = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "r/elu!" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "f c,1" inner_product_param { num_output: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "fc2" inner_product_param { num_output: 2 } }
layer { name: "" type: "TanH" bottom: "fc2" top: "last" }
"""


def test_nodes_and_values_have_the_nets_names() -> None:
    """Of a layer's nodes the one that writes the top has its name; a blob in place is blob/layer until it is done."""
    model = check_same(net_of(CHAIN, data=(2, 3, 4, 4)))
    assert [(node.op_type, node.name, list(node.output)) for node in model.graph.node] == [
        ("Conv", "conv", ["conv/conv"]),
        ("BatchNormalization", "bn", ["conv/bn"]),
        ("Relu", "r/elu!", ["conv"]),
        ("Flatten", "ip/Flatten", ["ip/Flatten"]),
        ("Gemm", "ip", ["f c,1"]),
        ("Flatten", "ip/Flatten_2", ["ip/Flatten_2"]),
        ("Gemm", "ip_2", ["fc2"]),
        ("Tanh", "unnamed", ["last"]),
    ]
    names = [constant.name for constant in model.graph.initializer]
    assert names[:2] == ["conv.weight", "conv.bias"]
    assert names[-4:] == ["ip.weight", "ip.bias", "ip_2.weight", "ip_2.bias"]


def test_in_place_on_an_input_that_others_read() -> None:
    text = 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" }'
    text += 'layer { name: "p" type: "Power" bottom: "data" top: "y" power_param { shift: 1 } }'
    model = check_same(net_of(text, data=(2, 3)))
    assert [list(node.output) for node in model.graph.node] == [["data/r"], ["y"]]


def test_a_shared_weight_is_written_once() -> None:
    fields = 'param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 }'
    text = f'layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a" {fields} }}'
    text += f'layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" {fields} }}'
    model = check_same(net_of(text, data=(2, 3)))
    assert [constant.name for constant in model.graph.initializer] == ["a.weight", "a.bias"]


def test_float16() -> None:
    """Weights and values have 16 bits, inputs and outputs 32; indices stay whole beyond 2048."""
    text = (
        CHAIN
        + """
    layer { name: "mvn" type: "MVN" bottom: "fc2" top: "mvn" }
    layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" }
    layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" top: "mask"
            pooling_param { kernel_size: 80 stride: 1 } }
    layer { name: "embed" type: "Embed" bottom: "words" top: "words2"
            embed_param { input_dim: 5000 num_output: 2 bias_term: false } }
    """
    )
    net = net_of(text, data=(2, 3, 80, 80), words=(7,))
    words = np.array([0, 2049, 4999, 4097, 3, 2047, 4095], np.float32)
    generator = np.random.default_rng(1)
    inputs = {"data": generator.standard_normal((2, 3, 80, 80)).astype(np.float32), "words": words}
    model = check_same(net, inputs, half=True, tolerance=HALF_TOLERANCE)
    weights = [constant for constant in model.graph.initializer if constant.name.endswith((".weight", ".bias"))]
    assert {constant.data_type for constant in weights} == {onnx.TensorProto.FLOAT16}
    table = net.params["embed"][0].detach().numpy()
    assert np.array_equal(run_model(model, inputs)["words2"], table[words.astype(int)].astype(np.float16))


def test_float16_recurrent() -> None:
    text = 'layer { name: "it" type: "LSTM" bottom: "x" bottom: "cont" top: "y" recurrent_param { num_output: 3 } }'
    for steps in (3, 70):
        check_same(net_of(text, x=(steps, 2, 4), cont=(steps, 2)), half=True, tolerance=HALF_TOLERANCE)


def test_too_large_for_float16() -> None:
    net = net_of(CHAIN, data=(2, 3, 4, 4))
    net.params["conv"][0].data.fill_(1e5)
    with pytest.raises(NetError, match=r'layer "conv": holds 100000; float16 ends at 65504: leave out --fp16'):
        to_onnx(net, half=True)


def test_only_constant_dummy_data() -> None:
    text = 'layer { name: "made" type: "DummyData" top: "m" dummy_data_param { shape { dim: 2 } data_filler { %s } } }'
    text += 'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "m" top: "y" }'
    check_same(net_of(text % "value: 3", x=(2,)))
    with pytest.raises(NetError, match=r'layer "made" \(DummyData\): its uniform numbers are new in each run'):
        to_onnx(net_of(text % 'type: "uniform"', x=(2,)))


def test_batch_norm_on_the_batch() -> None:
    text = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { use_global_stats: false } }'
    check_same(net_of(text, x=(3, 2, 4)))
