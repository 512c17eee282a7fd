"""Random valid parameters for every layer type: our own paths against each other.

float64 on the CPU is the reference for float32, for each ``engine``, and for CUDA where there is
a device.  The draws depend on the layer type and a number only, so that a failure repeats.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe_compat import random
from caffe_compat.layers.base import Layer, LayerContext
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import caffe_pb2
from caffe_compat.tools._golden import relative_error

#: with some 50 layer types and their variants about 20 s on one core
EXAMPLES_PER_TYPE = 20
#: float32 against float64, relative to the largest value: sums of up to some hundred terms
DATA_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3

#: no arithmetic of their own to compare: sources besides, a sink, and the user's own code
EXEMPT = {"HDF5Output", "Python"}


TYPES = sorted(
    name for name, cls in layer_types().items() if cls.__module__.startswith("caffe_compat.") and not cls.is_source
)


@pytest.mark.parametrize("layer_type", [name for name in TYPES if name not in EXEMPT])
def test_paths_agree(layer_type: str) -> None:
    for number in range(EXAMPLES_PER_TYPE):
        example = layer_types()[layer_type].example(Dice(layer_type, number))
        reference = run(layer_type, example, number, torch.float64, "cpu")
        devices = ["cpu", *["cuda"] * torch.cuda.is_available()]
        engines = ["DEFAULT", "CAFFE", "CUDNN"] if engine_field(layer_type) else ["DEFAULT"]
        for device in devices:
            for engine in engines:
                for dtype in (torch.float32, torch.float64):
                    place = f"{layer_type} example {number} ({example.fields}), {engine}, {dtype} on {device}"
                    compare(run(layer_type, example, number, dtype, device, engine=engine), reference, place)


def engine_field(layer_type: str) -> str:
    """The message that has the ``engine`` of a type, which chooses between implementations; "" where there is none, or
    a fork's alone (Intel's for Eltwise), which is ignored, or another layer's (Softmax's in Normalize), refused."""
    if layer_type == "Normalize":
        return ""
    messages = ((name, getattr(caffe_pb2.LayerParameter(), name)) for name in layer_types()[layer_type].param_fields)
    return next((name for name, m in messages if hasattr(m, "engine") and "CUDNN" in m.Engine.keys()), "")  # noqa: SIM118


def run(
    layer_type: str, example: Example, number: int, dtype: torch.dtype, device: str, *, engine: str = "DEFAULT"
) -> dict[str, Tensor]:
    """Tops, and the gradients of bottoms and parameters for random top diffs."""
    layer = make(layer_type, example, dtype, engine)
    noise = Dice(layer_type, number + EXAMPLES_PER_TYPE)
    with torch.no_grad():
        for blob in layer.blobs:
            blob.copy_(as_tensor((noise.positive if example.positive_blobs else noise.normal)(*blob.shape)))
    layer.to(device)
    bottoms = [as_tensor(b).to(device, dtype) for b in example.bottoms]
    for i, bottom in enumerate(bottoms):
        bottom.requires_grad_(takes_gradient(layer, i))
    random.set_seed(number)
    tops = layer(*bottoms)
    tops = (tops,) if isinstance(tops, Tensor) else tops
    if not layer.tops_depend_on_data:
        assert [tuple(t.shape) for t in tops] == layer.infer_shapes(*map(np.shape, example.bottoms))
    diffs = [as_tensor(noise.normal(*top.shape)).to(device, dtype) for top in tops]
    leaves = {f"gradient of bottom {i}": bottom for i, bottom in enumerate(bottoms)}
    leaves |= {f"gradient of blob {i}": blob for i, blob in enumerate(layer.blobs)}
    return {f"top {i}": top.detach() for i, top in enumerate(tops)} | gradients(tops, diffs, leaves)


def takes_gradient(layer: Layer, bottom: int) -> bool:
    return layer.has_backward and bottom not in layer.no_gradient_bottoms


def as_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values))


def gradients(tops: Sequence[Tensor], diffs: Sequence[Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of those leaves that the tops depend on."""
    leaves = {key: leaf for key, leaf in leaves.items() if leaf.requires_grad}
    pairs = [(top, diff) for top, diff in zip(tops, diffs, strict=True) if top.requires_grad]
    if not pairs or not leaves:
        return {}
    found = torch.autograd.grad([p[0] for p in pairs], list(leaves.values()), [p[1] for p in pairs], allow_unused=True)
    return {key: gradient for key, gradient in zip(leaves, found, strict=True) if gradient is not None}


def make(layer_type: str, example: Example, dtype: torch.dtype, engine: str) -> Layer:
    param = text_format.Parse(example.fields, caffe_pb2.LayerParameter(name=layer_type, type=layer_type))
    param.bottom.extend(f"bottom{i}" for i in range(len(example.bottoms)))
    param.top.extend(f"top{i}" for i in range(example.tops))
    if engine_field(layer_type):
        message = getattr(param, engine_field(layer_type))
        message.engine = message.Engine.Value(engine)
    phase = caffe_pb2.Phase.Name(param.phase)
    layer = layer_types()[layer_type](param, LayerContext(phase=phase, dtype=dtype))
    shapes = [b.shape for b in example.bottoms]
    layer.setup(*shapes)
    layer.infer_shapes(*shapes)
    return layer


def compare(ours: dict[str, Tensor], reference: dict[str, Tensor], place: str) -> None:
    assert ours.keys() == reference.keys(), place
    for key, theirs in reference.items():
        error = relative_error(ours[key].cpu().numpy(), theirs.numpy())
        assert error <= (GRADIENT_TOLERANCE if key.startswith("gradient") else DATA_TOLERANCE), f"{place}: {key}"
