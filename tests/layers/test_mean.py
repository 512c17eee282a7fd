from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import LayerContext
from caffe_compat.layers.mean import Mean
from caffe_compat.proto import parse_net, write_blob
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run
from tests.layers.onnx_form import check_onnx, numbers

SHAPE = (2, 4, 2, 3)


@on_devices
@pytest.mark.parametrize(("operation", "sign"), [("ADD", 1), ("SUBTRACT", -1)])
def test_values_repeat_over_the_channels(device: str, operation: str, sign: int) -> None:
    fields = f"operation: {operation} value: 1 value: 2 input_scale: 3 mean_scale: 5 output_scale: 7"
    layer = make_layer(Mean, f"mean_param {{ {fields} }}", SHAPE, device=device)
    bottom = noise(*SHAPE, device=device)
    check_layer(layer, bottom)
    mean = torch.tensor([1.0, 2, 1, 2], dtype=torch.float64, device=device).reshape(1, 4, 1, 1)
    torch.testing.assert_close(run(layer, bottom)[0], 7 * (3 * bottom + sign * 5 * mean))


def test_a_file_repeats_over_the_channels(tmp_path: Path) -> None:
    mean = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    path = tmp_path / "mean.binaryproto"
    write_blob(path, mean)
    text = f'top: "y0" top: "y1" mean_param {{ operation: SUBTRACT file: "{path}" }}'
    layer = make_layer(Mean, text, SHAPE, SHAPE)
    bottoms = [noise(*SHAPE), noise(*SHAPE, seed=1)]
    for bottom, top in zip(bottoms, run(layer, *bottoms), strict=True):
        torch.testing.assert_close(top, bottom - torch.from_numpy(np.tile(mean, (1, 2, 1, 1))).double())
    with pytest.raises(NetError, match="H and W its sizes"):
        layer.infer_shapes((2, 4, 2, 2), SHAPE)


def test_a_look_at_a_net_needs_no_file() -> None:
    (param,) = parse_net('layer { type: "Mean" mean_param { operation: ADD file: "absent" } }').layer
    layer = Mean(param, LayerContext(shapes_only=True))
    layer.setup(SHAPE)
    assert layer.infer_shapes(SHAPE) == [SHAPE]
    with pytest.raises(NetError, match=r"mean_param\.file 'absent': .*absent"):
        Mean(param).setup(SHAPE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("value: 1", "mean_param.operation is missing"),
        ("operation: ADD", "needs file, or value"),
        ("operation: ADD value: 1 file: 'x'", "needs file, or value"),
        ("operation: ADD value: 1 value: 2 value: 3", "C a multiple of its channels"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Mean, f"mean_param {{ {fields} }}", SHAPE)


def test_onnx() -> None:
    check_onnx('type: "Mean" mean_param { operation: SUBTRACT value: 1 value: 2 input_scale: 3 }', numbers(*SHAPE))
