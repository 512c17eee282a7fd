"""A net's ONNX form, run by onnxruntime, against the net itself."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import torch

from caffe_compat import Net
from caffe_compat.proto import parse_net
from caffe_compat.tools._noise import noise_inputs
from caffe_compat.tools._onnx import to_onnx
from caffe_compat.tools._onnx_sizes import find_sizes

Array = np.ndarray


def net_of(layers: str, **inputs: Sequence[int]) -> Net:
    """A TEST net of these layers (prototxt) on Input blobs of these shapes; parameters from -0.5 to 0.5."""
    text = ""
    for name, shape in inputs.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    return randomize(Net(parse_net(text + layers), phase="TEST").eval())


def randomize(net: Net, least: float = -0.5) -> Net:
    """Parameters from ``least`` to ``least`` + 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + least)
    return net


def run_model(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name; the inputs that the model does not take are left out."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    found = session.run(names, {name: value for name, value in inputs.items() if name in wanted})
    return dict(zip(names, found, strict=True))


def run_net(net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The same of the net."""
    with torch.no_grad():
        return {name: top.numpy() for name, top in net({k: torch.from_numpy(v) for k, v in inputs.items()}).items()}


def check_same(
    net: Net,
    inputs: Mapping[str, Array] | None = None,
    *,
    dynamic: Sequence[str] = (),
    tolerance: float = 1e-5,
    half: bool = False,
) -> onnx.ModelProto:
    """The ONNX form gives the net's numbers, on ``inputs`` (noise where there are none); with ``dynamic`` at each size
    that the net takes.  ``tolerance``: of a blob's largest value.  Returns the model."""
    sizes = find_sizes(net, dynamic)
    model: onnx.ModelProto = to_onnx(net, dynamic, half=half)
    for trial in range(len(sizes.trials) if dynamic else 1):
        net.reshape(**sizes.inputs(trial))
        given = noise_inputs(net, trial) if inputs is None else inputs
        expected, found = run_net(net, given), run_model(model, given)
        for name in net.outputs:
            assert found[name].shape == expected[name].shape
            assert found[name].dtype == np.float32
            largest = float(np.abs(expected[name]).max(initial=0.0))
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance * (largest or 1.0))
    return model
