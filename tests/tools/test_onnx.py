"""ONNX graphs against our own nets: every golden net whose layers all have an ONNX form."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.proto import parse_net
from caffe_compat.tools._exported import run_exported
from caffe_compat.tools._golden import find_cases, relative_error
from caffe_compat.tools._noise import noise_inputs

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from caffe_compat.tools._onnx import has_onnx_form, to_onnx  # noqa: E402  (needs onnx)

GOLDEN = Path(__file__).parent.parent / "golden"
#: other kernels add up in another order
TOLERANCE = 1e-5


def convertible() -> list[Path]:
    """Golden nets without layers that have no ONNX form."""
    cases = []
    for case in find_cases(GOLDEN, ("net",)):
        net = Net(case / "net.prototxt", phase="TEST")
        if all(step.layer.is_input or has_onnx_form(step.layer) for step in net.steps):
            cases.append(case)
    return cases


#: golden nets that use what ONNX cannot say
REFUSED = {
    "argmax_axis1",
    "argmax_axis1val",
    "argmax_maxval",
    "argmax_top2val",
    "argmax_top3",
    "convolution_axis2",
    "eltwise_max_inplace",
    "eltwise_prod_inplace",
    "eltwise_prod_unstable_inplace",
    "eltwise_sum_coeff_inplace",
    "eltwise_sum_inplace",
    "pooling_max_mask",
}


@pytest.mark.filterwarnings("ignore:.*(overwrites bottom 0|has no clip_param)")
@pytest.mark.parametrize("case", convertible(), ids=lambda path: path.name)
def test_same_numbers(case: Path) -> None:
    net = Net(case / "net.prototxt", phase="TEST").eval()
    if case.name in REFUSED:
        with pytest.raises(NetError, match=r"no ONNX form|ONNX convolves"):
            to_onnx(net)
        return
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
    with pytest.raises(NetError, match=r'"loss" \(SoftmaxWithLoss\), "accuracy" \(Accuracy\); convert a deploy net'):
        to_onnx(net)


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
