import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.embed import Embed
from tests.layers.harness import check_layer, make_layer, on_devices, randomize, run, tensor


def make_embed(fields: str, device: str = "cpu") -> Embed:
    return randomize(make_layer(Embed, f"embed_param {{ {fields} }}", (2, 3), device=device))


@on_devices
@pytest.mark.parametrize("bias", ["true", "false"])
def test_layer(device: str, bias: str) -> None:
    layer = make_embed(f"num_output: 4 input_dim: 5 bias_term: {bias}", device)
    rows = tensor([[0, 4, 2], [2, 2, 1]], device).detach()
    check_layer(layer, rows)
    (top,) = run(layer, rows)
    expected = layer.blob(0)[rows.long()] + (layer.blob(1) if bias == "true" else 0)
    torch.testing.assert_close(top, expected)


def test_blobs() -> None:
    assert make_embed("num_output: 4 input_dim: 5").blob_shapes == [(5, 4), (4,)]


@pytest.mark.parametrize("row", [-1.0, 5.0])
def test_refuses_a_row_outside_the_table(row: float) -> None:
    with pytest.raises(NetError, match=r"row -?\d is out of range; expected 0 to 4"):
        run(make_embed("num_output: 4 input_dim: 5"), tensor([row]))


@pytest.mark.parametrize(("fields", "name"), [("input_dim: 5", "num_output"), ("num_output: 4", "input_dim")])
def test_refusals(fields: str, name: str) -> None:
    with pytest.raises(NetError, match=f"embed_param.{name} is missing or 0"):
        make_embed(fields)
