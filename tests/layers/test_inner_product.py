import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.net import Net
from caffe_compat.proto import parse_net
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

#: float64 sums in another order
TOLERANCE = 1e-12


def make_product(fields: str, bottom: Shape, device: str = "cpu") -> InnerProduct:
    layer = randomize(make_layer(InnerProduct, f"inner_product_param {{ {fields} }}", bottom, device=device))
    assert isinstance(layer, InnerProduct)
    return layer


@on_devices
@pytest.mark.parametrize(
    ("fields", "bottom", "top", "weight"),
    [
        ("num_output: 3", (2, 4), (2, 3), (3, 4)),
        ("num_output: 3", (2, 2, 1, 2), (2, 3), (3, 4)),
        ("num_output: 3 axis: 2", (2, 3, 2, 2), (2, 3, 3), (3, 4)),
        ("num_output: 3 axis: -1 transpose: true", (2, 3, 4), (2, 3, 3), (4, 3)),
        ("num_output: 1 axis: 0 bias_term: false", (2, 4), (1,), (1, 8)),
        ("num_output: 2 transpose: true bias_term: false", (3, 2), (3, 2), (2, 2)),
    ],
)
def test_is_the_sum_over_inputs(device: str, fields: str, bottom: Shape, top: Shape, weight: Shape) -> None:
    layer = make_product(fields, bottom, device)
    assert layer.infer_shapes(bottom) == [top]
    assert layer.blob_shapes[0] == weight
    x = noise(*bottom, device=device)
    w, *bias = (blob.detach().cpu().numpy() for blob in layer.blobs)
    rows = x.detach().cpu().numpy().reshape(-1, layer.inputs)
    expected = np.zeros((len(rows), layer.num_output))
    for r, row in enumerate(rows):
        for o in range(layer.num_output):
            for i, value in enumerate(row):
                expected[r, o] += value * (w[i, o] if layer.transpose else w[o, i])
            expected[r, o] += bias[0][o] if bias else 0
    (found,) = run(layer, x)
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected.reshape(top), rtol=TOLERANCE, atol=TOLERANCE)
    check_layer(layer, x)


def test_values_and_gradients_by_hand() -> None:
    layer = make_product("num_output: 2", (2, 3))
    with torch.no_grad():
        layer.blob(0).copy_(torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]]))
        layer.blob(1).copy_(torch.tensor([10.0, 20.0]))
    x = tensor([[1.0, 0.0, 2.0], [-1.0, 1.0, 0.0]])
    (y,) = run(layer, x)
    assert y.tolist() == [[17.0, 21.0], [11.0, 19.0]]
    x_grad, weight_grad, bias_grad = torch.autograd.grad(y, [x, *layer.blobs], tensor([[1.0, 2.0], [0.0, 4.0]]))
    assert x_grad.tolist() == [[1.0, 0.0, 4.0], [0.0, -4.0, 2.0]]
    assert weight_grad.tolist() == [[1.0, 0.0, 2.0], [-2.0, 4.0, 4.0]]
    assert bias_grad.tolist() == [1.0, 6.0]


def test_another_batch_fits_and_another_width_does_not() -> None:
    layer = make_product("num_output: 3", (2, 2, 1, 2))
    assert layer.infer_shapes((7, 4)) == [(7, 3)]
    with pytest.raises(NetError, match=r"bottom \(2, 5\) has 5 values from axis 1 on; the weights take 4"):
        layer.infer_shapes((2, 5))


def test_flops_and_drawing() -> None:
    layer = make_product("num_output: 3", (2, 4))
    assert layer.flops([(2, 4)], [(2, 3)]) == 2 * (2 * 3) * 4
    assert InnerProduct.drawing_details(layer.param) == ["3 outputs"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "num_output is missing or 0"),
        ("num_output: 1 axis: 2", "axis is 2; expected -2 to 1"),
        ("num_output: 1 transpose: true normalize: true", "has transpose and normalize"),
    ],
)
def test_refusals(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_product(fields, (2, 4))


def test_unit_weights_of_normface() -> None:
    """Each forward makes the rows unit vectors, in place; a folded or fused net and ONNX have the same numbers."""
    layer = make_product("num_output: 1 normalize: true bias_term: false", (1, 2))
    layer.blobs[0].data.copy_(torch.tensor([[3.0, 4.0]]))
    x = tensor([[2.0, 1.0]])
    (y,) = run(layer, x)
    unit = [3 / (25 + 1e-6) ** 0.5, 4 / (25 + 1e-6) ** 0.5]
    assert layer.blobs[0].tolist()[0] == pytest.approx(unit, abs=1e-15)
    assert y.item() == pytest.approx(2 * unit[0] + unit[1], abs=1e-14)
    assert torch.autograd.grad(y, layer.blobs[0])[0].tolist() == [[2, 1]]

    shapes = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
    fields = 'num_output: 4 normalize: true weight_filler { type: "gaussian" std: 3 }'
    product = f'layer {{ name: "p" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {fields} }} }}'
    relu = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
    net = Net(parse_net(f"{shapes}{product}{relu}"), phase="TEST")
    given = torch.randn(2, 3)
    weight = net.params["p"][0].detach().double()
    expected = (given.double() @ (weight / (weight.square().sum(1, keepdim=True) + 1e-6).sqrt()).t()).relu().float()
    with torch.no_grad():
        folded = net.for_inference()
        torch.testing.assert_close(folded(x=given)["y"], expected)
        net.fast = True
        torch.testing.assert_close(net(x=given)["y"], expected)
    check_onnx(f'type: "InnerProduct" inner_product_param {{ {fields} }}', numbers(2, 3))


@on_devices
@pytest.mark.parametrize("bias", [True, False])
def test_weights_as_bottoms(device: str, bias: bool) -> None:
    """caffe-windows, OpenVINO's training toolbox: num_output is the weight's first size."""
    x, weight = noise(2, 3, 4, device=device), noise(5, 2, 2, device=device, seed=1)
    bottoms = [x, weight, *([noise(5, device=device, seed=2)] if bias else [])]
    fields = f"inner_product_param {{ axis: 2 normalize: true bias_term: {str(bias).lower()} }}"
    layer = make_layer(InnerProduct, fields, *(tuple(b.shape) for b in bottoms), device=device)
    assert layer.blobs == []
    check_layer(layer, *bottoms)
    expected = torch.einsum("nmk,ok->nmo", x, weight.flatten(1)) + (bottoms[2] if bias else 0)
    torch.testing.assert_close(run(layer, *bottoms)[0], expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_weights_as_bottoms_in_a_net() -> None:
    """Nothing takes the layer for one with weights of its own: fast mode, a folded net, ONNX."""
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}'
        for name, shape in (("x", "dim: 2 dim: 3"), ("w", "dim: 4 dim: 3"), ("b", "dim: 4"))
    )
    product = 'layer { name: "p" type: "InnerProduct" bottom: "x" bottom: "w" bottom: "b" top: "y" }'
    net = Net(parse_net(f'{inputs}{product} layer {{ name: "r" type: "ReLU" bottom: "y" top: "y" }}'), phase="TEST")
    x, w, b = torch.randn(2, 3), torch.randn(4, 3), torch.randn(4)
    expected = (x @ w.t() + b).relu()
    with torch.no_grad():
        torch.testing.assert_close(net.for_inference()(x=x, w=w, b=b)["y"], expected)
        net.fast = True
        torch.testing.assert_close(net(x=x, w=w, b=b)["y"], expected)
    check_onnx('type: "InnerProduct"', numbers(2, 3), numbers(4, 3, seed=1), numbers(4, seed=2))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", [(2, 3), (4, 3)], "has 2 bottoms and bias_term: true; expected values and weight with bias_term: false"),
        ("bias_term: false", [(2, 3), (4, 3), (4,)], "has 3 bottoms and bias_term: false"),
        ("bias_term: false transpose: true", [(2, 3), (4, 3)], "has its weight as a bottom and transpose"),
        (
            "bias_term: false num_output: 5",
            [(2, 3), (4, 3)],
            r"weight \(bottom 1\) has shape \(4, 3\)",
        ),
        ("", [(2, 3), (4, 3), (5,)], r"bias \(bottom 2\) has shape \(5,\); expected 4 values"),
    ],
)
def test_refusals_of_weights_as_bottoms(fields: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(InnerProduct, f"inner_product_param {{ {fields} }}", *shapes)
