import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.parameter import Parameter
from tests.layers.harness import make_layer, on_devices, run


@on_devices
def test_top_is_the_parameter(device: str) -> None:
    layer = make_layer(Parameter, "parameter_param { shape { dim: 2 dim: 3 } }", device=device)
    assert layer.infer_shapes() == [(2, 3)]
    with torch.no_grad():
        layer.blobs[0].fill_(7)
    (top,) = run(layer)
    assert torch.equal(top, torch.full((2, 3), 7.0, dtype=torch.float64, device=device))
    top.sum().backward()
    assert layer.blobs[0].grad is not None
    assert torch.equal(layer.blobs[0].grad, torch.ones_like(top))


def test_starts_at_zero_and_may_be_a_scalar() -> None:
    (top,) = run(make_layer(Parameter))
    assert top.shape == ()
    assert top.item() == 0


@pytest.mark.parametrize("name", ["filler", "blob_filler"])
def test_fillers_of_forks(name: str) -> None:
    fields = f'shape {{ dim: 2 }} {name} {{ type: "constant" value: 3 }}'
    assert run(make_layer(Parameter, f"parameter_param {{ {fields} }}"))[0].tolist() == [3, 3]
    with pytest.raises(NetError, match="has filler and blob_filler; expected one of them"):
        make_layer(Parameter, "parameter_param { filler { } blob_filler { } }")


def test_compiles() -> None:
    layer = make_layer(Parameter, "parameter_param { shape { dim: 2 } }")
    assert torch.compile(layer, fullgraph=True, backend="aot_eager")().shape == (2,)
