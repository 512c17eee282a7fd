"""Builds one layer from prototxt text and checks what every layer promises."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe_compat.layers.base import Layer, LayerContext, Shape
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.source import Source

#: one test body for both kinds of device
on_devices = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)

#: float32 against float64: a few roundings of numbers near 1
FLOAT32_TOLERANCE = 1e-5

#: what OpenCV 4.14 computed for layers of forks
GOLDEN_OPENCV = Path(__file__).parent.parent / "golden" / "forks" / "opencv"

AnyLayer = TypeVar("AnyLayer", bound=Layer)
#: a layer, or its compiled form
Forward = Callable[..., Tensor | tuple[Tensor, ...]]


def make_layer(
    layer_class: type[AnyLayer],
    text: str = "",
    *bottom_shapes: Shape,
    phase: str = "TEST",
    device: str = "cpu",
    allow_python_layers: bool = False,
) -> AnyLayer:
    """A float64 layer that is set up and has inferred its shapes; ``text``: LayerParameter fields."""
    param = text_format.Parse(text, caffe_pb2.LayerParameter(name="it", type=layer_class.type))
    param.bottom.extend([] if param.bottom else [f"x{i}" for i in range(len(bottom_shapes))])
    param.top.extend([] if param.top else ["y"])
    context = LayerContext(
        phase=phase,
        source=Source("net.prototxt"),
        dtype=torch.float64,
        allow_python_layers=allow_python_layers,
    )
    layer = layer_class(param, context)
    layer.setup(*bottom_shapes)
    layer.infer_shapes(*bottom_shapes)
    return layer.to(device)


def tensor(values: object, device: str = "cpu") -> Tensor:
    """A float64 leaf that takes a gradient."""
    return torch.tensor(values, dtype=torch.float64, device=device, requires_grad=True)


def noise(*shape: int, device: str = "cpu", seed: int = 0) -> Tensor:
    """Normal float64 numbers, the same on every device, as a leaf that takes a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device).requires_grad_()


def randomize(layer: AnyLayer, seed: int = 1) -> AnyLayer:
    """The layer with normal numbers as its learned parameters, the same on every device."""
    for i, parameter in enumerate(p for p in layer.parameters() if p.requires_grad):
        parameter.data.copy_(noise(*parameter.shape, seed=seed + i).detach())
    return layer


def run(layer: Forward, *bottoms: Tensor) -> tuple[Tensor, ...]:
    """The tops, always as a tuple."""
    tops = layer(*bottoms)
    return (tops,) if isinstance(tops, Tensor) else tuple(tops)


def gradient(layer: Forward, bottom: Tensor, top_diff: object = None) -> list[float]:
    """The first bottom's gradient for ``top_diff`` (default: ones)."""
    (top,) = run(layer, bottom)
    diff = torch.ones_like(top) if top_diff is None else torch.tensor(top_diff, dtype=top.dtype, device=top.device)
    (found,) = torch.autograd.grad(top, bottom, diff)
    return found.flatten().tolist()


def check_layer(layer: Layer, *bottoms: Tensor, differentiable: bool = True) -> None:
    """Shapes, untouched bottoms, numeric gradient, one graph for torch.compile, float32 as float64."""
    before = [bottom.detach().clone() for bottom in bottoms]
    tops = run(layer, *bottoms)
    assert [tuple(top.shape) for top in tops] == layer.infer_shapes(*(tuple(b.shape) for b in bottoms))
    assert all(top.dtype == torch.float64 and top.device == bottoms[0].device for top in tops)
    if differentiable:
        parameters = tuple(layer.parameters())
        assert torch.autograd.gradcheck(lambda *given: run(layer, *given[: len(bottoms)]), (*bottoms, *parameters))
    else:
        assert not any(top.requires_grad for top in tops)
    assert all(torch.equal(bottom, kept) for bottom, kept in zip(bottoms, before, strict=True))

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(compiled, *bottoms), tops)
    torch.compiler.reset()

    layer.float()
    single = run(layer, *(bottom.detach().float() for bottom in bottoms))
    assert all(top.dtype == torch.float32 for top in single)
    layer.double()
    for ours, exact in zip(single, tops, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE)


def opencv_case(layer_class: type[AnyLayer], name: str) -> tuple[AnyLayer, list[Tensor], Tensor]:
    """A float32 layer, its bottoms, and the top that OpenCV computed; see tests/golden/forks/opencv."""
    with np.load(GOLDEN_OPENCV / f"{name}.npz") as case:
        bottoms = [torch.from_numpy(case[f"bottom{i}"]) for i in range(sum(key.startswith("bottom") for key in case))]
        assert case["type"] == layer_class.type
        layer = make_layer(layer_class, str(case["fields"]), *(tuple(bottom.shape) for bottom in bottoms))
        return layer.float(), bottoms, torch.from_numpy(case["top"])
