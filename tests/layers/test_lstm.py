import pytest
import torch

from caffe_compat.layers.lstm import LSTM
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run, tensor

X, CONT = (3, 2, 5), (3, 2)
#: for the numeric gradient: few steps and inputs
SMALL, SMALL_CONT, STARTS = (2, 2, 3), (2, 2), [[0.0, 0.0], [1.0, 0.0]]


@on_devices
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("expose", [False, True])
def test_layer(device: str, static: bool, expose: bool) -> None:
    text = 'top: "y" top: "h" top: "c" recurrent_param { num_output: 2 expose_hidden: true }'
    shapes = [SMALL, SMALL_CONT, *[(2, 3)] * static, *[(1, 2, 2)] * 2 * expose]
    layer = make_layer(LSTM, text if expose else "recurrent_param { num_output: 2 }", *shapes, device=device)
    bottoms = [noise(*SMALL, device=device), tensor(STARTS, device).detach()]
    # Exposed states have no gradient in Caffe, so they take no part in the numeric check.
    bottoms += [noise(*shape, device=device, seed=i) for i, shape in enumerate(shapes[2 : 2 + static])]
    bottoms += [noise(*shape, device=device, seed=i).detach() for i, shape in enumerate(shapes[2 + static :])]
    check_layer(randomize(layer), *bottoms)


def test_values_are_pytorchs() -> None:
    layer = randomize(make_layer(LSTM, "recurrent_param { num_output: 4 }", X, CONT))
    theirs = torch.nn.LSTM(5, 4, dtype=torch.float64)
    with torch.no_grad():
        # Caffe's gates are i, f, o, g, PyTorch's i, f, g, o.
        for ours, name in ((0, "weight_ih_l0"), (1, "bias_ih_l0"), (2, "weight_hh_l0")):
            i, f, o, g = layer.blob(ours).chunk(4)
            getattr(theirs, name).copy_(torch.cat([i, f, g, o]))
        theirs.get_parameter("bias_hh_l0").zero_()
    x = noise(*X)
    torch.testing.assert_close(run(layer, x, torch.ones(*CONT))[0], theirs(x)[0])


def test_blobs() -> None:
    layer = make_layer(LSTM, "recurrent_param { num_output: 4 }", (3, 2, 5, 2), CONT, (2, 3, 2))
    assert layer.blob_shapes == [(16, 10), (16,), (16, 6), (16, 4)]
