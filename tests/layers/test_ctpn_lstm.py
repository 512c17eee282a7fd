import pytest
import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.ctpn_lstm import CtpnLstm
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run, tensor
from tests.layers.onnx_form import check_onnx, numbers

FIELDS = "lstm_param { num_output: 2 }"


def lstm(layer: CtpnLstm, x: Tensor, h: Tensor, c: Tensor, flags: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, step by step, for x (T, N, inputs); where a flag is 0, neither h nor c goes on."""
    weight, hidden, bias = layer.blobs
    tops = []
    for step, flag in zip(x, flags, strict=True):
        gates = step @ weight.t() + bias + (h @ hidden.t() if flag else 0)
        i, f, o, g = gates.split(2, 1)
        c = i.sigmoid() * g.tanh() + (f.sigmoid() * c if flag else 0)
        h = o.sigmoid() * c.tanh()
        tops.append(h)
    return torch.stack(tops), h, c


@on_devices
def test_layer(device: str) -> None:
    layer = randomize(make_layer(CtpnLstm, FIELDS, (2, 3, 4), device=device))
    assert layer.blob_shapes == [(8, 4), (8, 2), (8,)]
    x = noise(2, 3, 4, device=device)
    check_layer(layer, x)
    zero = x.new_zeros(3, 2)
    torch.testing.assert_close(run(layer, x)[0], lstm(layer, x, zero, zero, [1, 1])[0])
    torch.testing.assert_close(run(layer, x)[0], run(layer, x)[0])  # starts from zero each time


@on_devices
def test_flags_go_on_from_the_last_forward(device: str) -> None:
    layer = randomize(make_layer(CtpnLstm, FIELDS, (3, 1, 5), (3,), device=device))
    h = c = torch.zeros(1, 2, dtype=torch.float64, device=device)
    for number, flags in enumerate([[0, 1, 1], [1, 0, 1], [1, 1, 1]]):
        x = noise(3, 1, 5, device=device, seed=number)
        expected, h, c = lstm(layer, x, h, c, flags)
        (top,) = run(layer, x, torch.tensor(flags, dtype=torch.float64, device=device))
        torch.testing.assert_close(top, expected)
        h, c = h.detach(), c.detach()


def test_gradients_with_flags_are_the_true_ones() -> None:
    layer = randomize(make_layer(CtpnLstm, FIELDS, (3, 1, 5), (3,)))
    flags = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, *_: run(layer, x, flags), (noise(3, 1, 5), *layer.blobs))


def test_clipping_limits_the_gates_gradients() -> None:
    x = noise(2, 1, 3)
    clipped = randomize(make_layer(CtpnLstm, "lstm_param { num_output: 2 clipping_threshold: 0.01 }", (2, 1, 3)))
    run(clipped, x)[0].sum().backward()
    # Step 2's gates alone, by hand: their gradients cut off, then carried back to h.
    weight, hidden, bias = (blob.detach() for blob in clipped.blobs)
    gates = [(step @ weight.t() + bias) for step in x.detach()]
    _, h, c = lstm(clipped, x.detach()[:1], x.new_zeros(1, 2), x.new_zeros(1, 2), [0])
    h, c = h.detach().requires_grad_(), c.detach().requires_grad_()
    second = (gates[1] + h.detach() @ hidden.t()).requires_grad_()
    i, f, o, g = second.split(2, 1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    (o.sigmoid() * new_c.tanh()).sum().backward()
    assert second.grad is not None
    assert c.grad is not None
    second_diff = second.grad.clamp(-0.01, 0.01)
    first = gates[0].clone().requires_grad_()
    i, f, o, g = first.split(2, 1)
    first_c = i.sigmoid() * g.tanh()
    first_h = o.sigmoid() * first_c.tanh()
    torch.autograd.backward([first_h, first_c], [torch.ones_like(first_h) + second_diff @ hidden, c.grad])
    assert first.grad is not None
    first_diff = first.grad.clamp(-0.01, 0.01)
    torch.testing.assert_close(clipped.blobs[2].grad, (first_diff + second_diff)[0])
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.stack([first_diff, second_diff]) @ weight)


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ("", ((3, 2, 4),), "lstm_param.num_output is missing"),
        ("num_output: 2", ((3, 2),), r"expected \(timesteps, streams, inputs, ...\)"),
        ("num_output: 2", ((3, 2, 4), (3,)), "flags are for one stream"),
        ("num_output: 2", ((3, 1, 4), (2,)), "flags are for one stream"),
    ],
)
def test_refusals(fields: str, bottoms: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(CtpnLstm, f"lstm_param {{ {fields} }}", *bottoms)


def test_another_number_of_inputs_is_refused() -> None:
    layer = make_layer(CtpnLstm, FIELDS, (3, 2, 4))
    with pytest.raises(NetError, match="the weights take 4 inputs"):
        layer.infer_shapes((3, 2, 5))


def test_a_batch_size_that_is_not_the_bottom_s_draws_a_warning() -> None:
    with pytest.warns(UserWarning, match="lstm_param.batch_size 5 has no effect: bottom 0 has 2 streams"):
        make_layer(CtpnLstm, "lstm_param { num_output: 2 batch_size: 5 }", (3, 2, 4))


def test_onnx() -> None:
    check_onnx('type: "Lstm" lstm_param { num_output: 3 }', numbers(4, 2, 2, 3))
    with pytest.raises(NetError, match="Lstm with flags"):
        check_onnx('type: "Lstm" lstm_param { num_output: 3 }', numbers(4, 1, 3), numbers(4))


def test_value() -> None:
    layer = make_layer(CtpnLstm, "lstm_param { num_output: 1 }", (1, 1, 1))
    layer.blob(0).data.copy_(torch.tensor([[0.0], [9.0], [0.0], [1.0]]))
    # i = o = 1/2, g = tanh(1); f has nothing to keep
    expected = 0.5 * torch.tanh(0.5 * torch.tanh(tensor(1.0)))
    assert run(layer, tensor([[[1.0]]]))[0].item() == pytest.approx(expected.item())
