"""Convolutions whose channels are another axis than 1, as ONNX."""

import pytest

from tests.onnx_harness import check_same, net_of

CONVOLUTION = """layer {{ name: "it" type: "{}" bottom: "x" top: "y"
    convolution_param {{ num_output: 4 axis: {} group: 2 kernel_size: 3 stride: 2 pad: 1 }} }}"""


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (2, 4, 5, 6)), (2, (2, 3, 4, 5)), (3, (2, 2, 3, 4, 5, 6)), (0, (4, 7, 5)), (1, (3, 4))]
)
def test_convolution(layer_type: str, axis: int, shape: tuple[int, ...]) -> None:
    check_same(net_of(CONVOLUTION.format(layer_type, axis), x=shape))


def test_rows_of_any_number() -> None:
    layer = CONVOLUTION.format("Convolution", 2)
    model = check_same(net_of(layer, x=(2, 3, 4, 5)), dynamic=["batch"])
    assert [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == ["batch", 3, 4, 3]


def test_im2col() -> None:
    layer = 'layer { name: "it" type: "Im2col" bottom: "x" top: "y" convolution_param { axis: 2 kernel_size: 2 } }'
    check_same(net_of(layer, x=(2, 3, 2, 4, 5)))
