"""One layer as an ONNX graph, run by onnxruntime, against the layer itself."""

import numpy as np
import onnxruntime
import torch

from caffe_compat import Net
from caffe_compat.proto import parse_net
from caffe_compat.tools._golden import relative_error
from caffe_compat.tools._onnx import to_onnx

#: other kernels add up in another order
TOLERANCE = 1e-5


def check_onnx(layer: str, *bottoms: np.ndarray, tops: int = 1) -> None:
    """``layer``: fields of a LayerParameter without names of blobs; its parameters get random positive values."""
    shapes = ["".join(f"dim: {size} " for size in bottom.shape) for bottom in bottoms]
    inputs = "".join(
        f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {shape} }} }} }}\n'
        for i, shape in enumerate(shapes)
    )
    names = " ".join(f'bottom: "x{i}"' for i in range(len(bottoms))) + " "
    names += " ".join(f'top: "y{i}"' for i in range(tops))
    net = Net(parse_net(f'{inputs}layer {{ name: "it" {names} {layer} }}'), phase="TEST").eval()
    generator = torch.Generator().manual_seed(0)
    values = {f"x{i}": np.asarray(bottom, np.float32) for i, bottom in enumerate(bottoms)}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.1)
        expected = net(**{name: torch.from_numpy(value) for name, value in values.items()})
    session = onnxruntime.InferenceSession(to_onnx(net).SerializeToString())
    wanted = {value.name for value in session.get_inputs()}
    found = session.run(net.outputs, {name: value for name, value in values.items() if name in wanted})
    for name, value in zip(net.outputs, found, strict=True):
        assert relative_error(value, expected[name].numpy()) <= TOLERANCE, name


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
