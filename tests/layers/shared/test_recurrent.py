"""What RNN and LSTM have in common; each one's formula is in its own test file."""

import pytest
import torch

from caffe_compat import random
from caffe_compat.errors import NetError
from caffe_compat.layers.lstm import LSTM
from caffe_compat.layers.rnn import RNN
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.recurrent import MOST_UNROLLED, Recurrent
from tests.layers.harness import make_layer, noise, randomize, run
from tests.onnx_harness import check_same, net_of

X, CONT = (3, 2, 5), (3, 2)
FIELDS = "recurrent_param { num_output: 4 }"
BOTH = pytest.mark.parametrize("kind", [RNN, LSTM])


def make(kind: type[Recurrent], text: str = FIELDS, *shapes: tuple[int, ...]) -> Recurrent:
    return randomize(make_layer(kind, text, *(shapes or (X, CONT))))


@BOTH
def test_state_is_carried_from_batch_to_batch(kind: type[Recurrent]) -> None:
    x, cont = noise(*X), torch.ones(*CONT, dtype=torch.float64)
    whole = make(kind, FIELDS, (6, 2, 5), (6, 2))
    parts = make(kind)
    (expected,) = run(whole, torch.cat([x, x]), torch.cat([cont, cont]))
    torch.testing.assert_close(torch.cat([run(parts, x, cont)[0], run(parts, x, cont)[0]]), expected)


@BOTH
def test_cont_zero_forgets(kind: type[Recurrent]) -> None:
    layer, x = make(kind), noise(*X)
    cont = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    (first,) = run(layer, x, cont)
    (again,) = run(layer, x, cont)
    assert torch.equal(first, again)
    # Stream 1 starts anew in step 1.
    (late,) = run(make(kind, FIELDS, (2, 2, 5), (2, 2)), x[1:], torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double())
    torch.testing.assert_close(first[1:, 1], late[:, 1])


@BOTH
def test_another_number_of_streams_starts_from_zero(kind: type[Recurrent]) -> None:
    layer, fresh = make(kind), make(kind)
    ones = torch.ones(3, 4, dtype=torch.float64)
    run(layer, noise(*X), ones[:, :2])
    wide = noise(3, 4, 5)
    assert torch.equal(run(layer, wide, ones)[0], run(fresh, wide, ones)[0])


@BOTH
def test_no_gradient_through_exposed_states(kind: type[Recurrent]) -> None:
    states = len(kind.state_names)
    tops = " ".join(f'top: "y{i}"' for i in range(1 + states))
    shapes = [(1, 2, 4)] * states
    layer = make(kind, f"{tops} recurrent_param {{ num_output: 4 expose_hidden: true }}", X, CONT, *shapes)
    initial = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]
    top, *final = run(layer, noise(*X), torch.ones(*CONT), *initial)
    assert top.requires_grad
    assert not any(state.requires_grad for state in final)
    assert set(torch.autograd.grad(top.sum(), initial, allow_unused=True)) == {None}


@BOTH
def test_backward_after_a_second_forward(kind: type[Recurrent]) -> None:
    layer, x = make(kind), noise(*X)
    (top,) = run(layer, x, torch.ones(*CONT))
    run(layer, x, torch.ones(*CONT))
    assert torch.autograd.grad(top.sum(), x)[0].any()


@pytest.mark.parametrize(("kind", "per_step"), [(RNN, [(4, 4), (4, 4), (4,)]), (LSTM, [(16, 4)])])
def test_the_stream_moves_on_as_if_each_step_were_filled(
    kind: type[Recurrent], per_step: list[tuple[int, ...]]
) -> None:
    with random.scope():
        text = 'recurrent_param { num_output: 4 weight_filler { type: "uniform" } bias_filler { type: "gaussian" } }'
        random.set_seed(5)
        layer = make_layer(kind, text, X, CONT)
        after = random.generator().raw()
        random.set_seed(5)
        param = layer.param.recurrent_param
        shapes = [*layer.blob_shapes[:2], *per_step * 3]
        filled = []
        for shape in shapes:
            filled.append(torch.empty(shape, dtype=torch.float64))
            fill(filled[-1], param.bias_filler if len(shape) == 1 else param.weight_filler)
        assert all(torch.equal(blob, values) for blob, values in zip(layer.blobs, filled, strict=False))
        assert random.generator().raw() == after


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("", (X, CONT), "num_output is missing or 0"),
        (FIELDS, (X,), "has 1 bottoms"),
        (FIELDS, (X, CONT, (2, 1), (1, 2, 4)), "expected 2 bottoms, or 3 with a static input, and 1 tops"),
        ("recurrent_param { num_output: 4 expose_hidden: true }", (X, CONT), "expected 3 bottoms"),
        (FIELDS, ((3, 2), CONT), r"bottom 0 has shape \(3, 2\)"),
        (FIELDS, (X, (2, 3)), r"bottom 1 has shape \(2, 3\); expected \(3, 2\)"),
        (FIELDS, (X, CONT, (3, 1)), r"bottom 2 \(static input\) has shape \(3, 1\); expected \(2, inputs, ...\)"),
        (
            'top: "y" top: "h" recurrent_param { num_output: 4 expose_hidden: true }',
            (X, CONT, (1, 2, 5)),
            r"bottom 2 \(initial state\) has shape \(1, 2, 5\); expected \(1, 2, 4\)",
        ),
    ],
)
def test_refusals(text: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(RNN, text, *shapes)


def test_refuses_other_timesteps_later() -> None:
    with pytest.raises(NetError, match="bottom 0 has 2 timesteps; the net was made for 3"):
        make(RNN).infer_shapes((2, 2, 5), (2, 2))


def test_warns_that_there_is_no_inner_net_to_debug() -> None:
    with pytest.warns(UserWarning, match="recurrent_param.debug_info has no effect"):
        make(RNN, "recurrent_param { num_output: 4 debug_info: true }")


@pytest.mark.parametrize("layer_type", ["LSTM", "RNN"])
@pytest.mark.parametrize("steps", [1, 4, MOST_UNROLLED + 6])
@pytest.mark.parametrize(("static", "expose"), [(False, False), (True, True)])
@pytest.mark.parametrize("constant", [False, True])
def test_onnx(layer_type: str, steps: int, static: bool, expose: bool, constant: bool) -> None:
    """cont begins anew in the middle; where it is constant, ONNX's own operator does the work."""
    states = (["h", "c"] if layer_type == "LSTM" else ["h"]) if expose else []
    shapes = {"x": (steps, 2, 5, 2), "cont": (steps, 2), "s": (2, 3, 2)} | {f"{state}0": (1, 2, 3) for state in states}
    if not static:
        del shapes["s"]
    bottoms = " ".join(f'bottom: "{name}"' for name in shapes)
    tops = " ".join(f'top: "{name}"' for name in ("y", *states))
    fields = f"recurrent_param {{ num_output: 3 expose_hidden: {str(expose).lower()} }}"
    text = f'layer {{ name: "it" type: "{layer_type}" {bottoms} {tops} {fields} }}'
    if constant:
        ones = f"shape {{ dim: {steps} dim: 2 }} data_filler {{ value: 1 }}"
        text = f'layer {{ name: "on" type: "DummyData" top: "cont" dummy_data_param {{ {ones} }} }}' + text
        del shapes["cont"]
    model = check_same(net_of(text, **shapes))
    operators = {node.op_type for node in model.graph.node}
    assert (layer_type in operators) == constant
    assert ("Scan" in operators) == (not constant and steps > MOST_UNROLLED)
