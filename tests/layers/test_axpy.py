import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.axpy import Axpy
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

Shape = tuple[int, ...]


@on_devices
@pytest.mark.parametrize(("a", "x"), [((2, 3, 1, 1), (2, 3, 2, 2)), ((2, 3), (2, 3, 2, 2)), ((2, 3), (2, 3))])
def test_layer(device: str, a: Shape, x: Shape) -> None:
    layer = make_layer(Axpy, "", a, x, x, device=device)
    check_layer(layer, noise(*a, device=device), noise(*x, device=device, seed=1), noise(*x, device=device, seed=2))


def test_value() -> None:
    layer = make_layer(Axpy, "", (2, 1), (2, 1, 2), (2, 1, 2))
    a, x, y = tensor([[2.0], [3.0]]), tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), tensor([[[10.0, 20.0]], [[30.0, 40.0]]])
    assert run(layer, a, x, y)[0].flatten().tolist() == [12, 24, 39, 52]


@pytest.mark.parametrize("shapes", [((2, 3, 2, 2),) * 3, ((2, 4), (2, 3, 1), (2, 3, 1)), ((2, 3), (2, 3, 1), (2, 3))])
def test_refusals(shapes: tuple[Shape, ...]) -> None:
    with pytest.raises(NetError, match=r"expected \(N, C, 1, 1\), \(N, C, H, W\) and \(N, C, H, W\)"):
        make_layer(Axpy, "", *shapes)


def test_onnx() -> None:
    check_onnx('type: "Axpy"', numbers(2, 3, 1, 1), numbers(2, 3, 2, 4), numbers(2, 3, 2, 4, seed=1))
    check_onnx('type: "Axpy"', numbers(2, 3), numbers(2, 3, 2, 4), numbers(2, 3, 2, 4, seed=1))
