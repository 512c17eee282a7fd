import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.argmax import ArgMax
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
@pytest.mark.parametrize(
    ("fields", "top"),
    [
        ("top_k: 2", (2, 1, 2, 1)),
        ("top_k: 2 out_max_val: true", (2, 2, 2, 1)),
        ("top_k: 2 axis: 1", (2, 2, 4, 5)),
        ("top_k: 5 axis: -1 out_max_val: true", (2, 3, 4, 5)),
    ],
)
def test_layer(device: str, fields: str, top: tuple[int, ...]) -> None:
    layer = make_layer(ArgMax, f"argmax_param {{ {fields} }}", (2, 3, 4, 5), device=device)
    assert layer.infer_shapes((2, 3, 4, 5)) == [top]
    check_layer(layer, noise(2, 3, 4, 5, device=device), differentiable=False)


def test_two_axes_in_give_three_out() -> None:
    assert make_layer(ArgMax, "", (2, 3)).infer_shapes((2, 3)) == [(2, 1, 1)]


def test_five_axes_are_kept() -> None:
    assert make_layer(ArgMax, "", (2, 3, 4, 5, 6)).infer_shapes((2, 3, 4, 5, 6)) == [(2, 1, 1, 1, 1)]


@on_devices
def test_the_larger_index_wins_ties(device: str) -> None:
    layer = make_layer(ArgMax, "argmax_param { top_k: 3 }", (1, 5), device=device)
    (top,) = run(layer, tensor([[7.0, 9.0, 7.0, 9.0, 1.0]], device))
    assert top.flatten().tolist() == [3, 1, 2]


def test_indices_and_values() -> None:
    layer = make_layer(ArgMax, "argmax_param { top_k: 2 out_max_val: true }", (1, 3))
    (top,) = run(layer, tensor([[5.0, 8.0, 6.0]]))
    assert top.tolist() == [[[1, 2], [8, 6]]]


@pytest.mark.parametrize("fields", ["top_k: 0", "top_k: 13", "top_k: 4 axis: 1", "axis: 3", "axis: -4"])
def test_refusals(fields: str) -> None:
    with pytest.raises(NetError, match="argmax_param"):
        make_layer(ArgMax, f"argmax_param {{ {fields} }}", (2, 3, 4))
