import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.shuffle_channel import ShuffleChannel
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
@pytest.mark.parametrize("shape", [(2, 6, 3, 2), (2, 6)])
def test_layer(device: str, shape: tuple[int, ...]) -> None:
    layer = make_layer(ShuffleChannel, "shuffle_channel_param { group: 3 }", shape, device=device)
    check_layer(layer, noise(*shape, device=device))


def test_channels_are_dealt_out_in_turns() -> None:
    layer = make_layer(ShuffleChannel, "shuffle_channel_param { group: 2 }", (1, 6, 1, 1))
    bottom = tensor([[[[v]] for v in (0.0, 1.0, 2.0, 10.0, 11.0, 12.0)]])
    assert run(layer, bottom)[0].flatten().tolist() == [0, 10, 1, 11, 2, 12]
    assert gradient(layer, bottom, [[[[v]] for v in range(6)]]) == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("group", [0, 4])
def test_group_must_divide(group: int) -> None:
    with pytest.raises(NetError, match=f"shuffle_channel_param.group is {group}; it must divide"):
        make_layer(ShuffleChannel, f"shuffle_channel_param {{ group: {group} }}", (1, 6, 1, 1))


def test_onnx() -> None:
    check_onnx('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', numbers(2, 6, 3, 2))
