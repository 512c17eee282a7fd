import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.inner_distance import InnerDistance
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


def distances(x: np.ndarray, centers: np.ndarray, order: str) -> np.ndarray:
    """Row by row and centre by centre."""
    return np.array([[((a - b) ** 2 if order == "L2" else np.abs(a - b)).sum() for b in centers] for a in x])


@on_devices
@pytest.mark.parametrize("order", ["L2", "L1"])
@pytest.mark.parametrize("given", [True, False])
def test_equals_the_definition(device: str, order: str, given: bool) -> None:
    text = f'inner_distance_param {{ num_output: 4 distance_type: "{order}" }}'
    bottoms = [noise(3, 2, 5, device=device), *([noise(4, 10, device=device, seed=1)] if given else [])]
    layer = randomize(make_layer(InnerDistance, text, *(tuple(b.shape) for b in bottoms), device=device))
    assert layer.blob_shapes == ([] if given else [(4, 10)])
    check_layer(layer, *bottoms)
    centers = bottoms[1] if given else layer.blobs[0]
    x, w = (t.detach().cpu().numpy() for t in (bottoms[0].flatten(1), centers))
    np.testing.assert_allclose(run(layer, *bottoms)[0].detach().cpu().numpy(), distances(x, w, order), rtol=1e-12)


@on_devices
def test_a_centre_learns_from_features_of_its_label(device: str) -> None:
    layer = make_layer(InnerDistance, "inner_distance_param { update_center_only: true }", (3, 1), (2, 1), (3,))
    x, centers = tensor([[1.0], [2.0], [4.0]], device), tensor([[0.0], [10.0]], device)
    (top,) = run(layer.to(device), x, centers, torch.tensor([0.0, 1, 0], device=device))
    assert top.tolist() == [[1, 81], [4, 64], [16, 36]]
    of_x, of_centers = torch.autograd.grad(top.sum(), (x, centers))
    assert of_x.flatten().tolist() == [2 - 18, 4 - 16, 8 - 12]
    assert of_centers.flatten().tolist() == [-2 - 8, 16]


def test_unit_centres() -> None:
    layer = make_layer(InnerDistance, "inner_distance_param { num_output: 1 normalize: true }", (1, 2))
    layer.blobs[0].data.copy_(torch.tensor([[3.0, 4.0]]))
    (top,) = run(layer, tensor([[0.6, 0.0]]))
    assert layer.blobs[0].tolist()[0] == pytest.approx([0.6, 0.8], abs=1e-7)
    assert layer.blobs[0].tolist()[0] == pytest.approx([3 / (25 + 1e-6) ** 0.5, 4 / (25 + 1e-6) ** 0.5], abs=1e-15)
    assert top.item() == pytest.approx(0.64, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", [(2, 3)], "num_output is missing"),
        ('distance_type: "L3"', [(2, 3)], 'distance_type is "L3"; expected L2 or L1'),
        ("num_output: 1 transpose: true", [(2, 3)], "transpose is not computed by the fork"),
        ("update_center_only: true", [(2, 3), (2,)], "2 bottom.* expected .* features, centres and labels"),
        ("", [(2, 3), (4, 2)], "expected centres of 3 values"),
    ],
)
def test_refusals(fields: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(InnerDistance, f"inner_distance_param {{ {fields} }}", *shapes)


@pytest.mark.parametrize("fields", ["", 'distance_type: "L1" normalize: true'])
def test_onnx(fields: str) -> None:
    layer = f'type: "InnerDistance" inner_distance_param {{ num_output: 4 {fields} }}'
    check_onnx(layer, numbers(2, 3))
    check_onnx(layer, numbers(2, 3), numbers(5, 3, seed=1))
