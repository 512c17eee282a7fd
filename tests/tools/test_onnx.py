"""ONNX graphs against our own nets: every golden net whose layers all have an ONNX form."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import Net
from caffe_compat.errors import NetError
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
