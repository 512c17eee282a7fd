from collections.abc import Iterator

import pytest
import torch

from caffe_compat import random
from caffe_compat.errors import NetError
from caffe_compat.layers.dropout import Dropout
from tests.layers.harness import check_layer, make_layer, noise, on_devices
from tests.layers.onnx_form import check_onnx, numbers


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    with random.scope():
        yield


def make_dropout(ratio: float, device: str = "cpu") -> Dropout:
    return make_layer(Dropout, f"dropout_param {{ dropout_ratio: {ratio} }}", (50, 40), phase="TRAIN", device=device)


@on_devices
def test_identity_in_test(device: str) -> None:
    layer = make_layer(Dropout, "", (3, 4), device=device)
    bottom = noise(3, 4, device=device)
    check_layer(layer, bottom)
    assert torch.equal(layer(bottom), bottom)


@on_devices
@pytest.mark.parametrize("seeded", [False, True])
def test_values_and_gradient(device: str, seeded: bool) -> None:
    if seeded:
        random.set_seed(1)
    layer = make_dropout(0.25, device)
    bottom = noise(50, 40, device=device)
    top = layer(bottom)
    kept = top != 0
    # 2000 draws: five standard errors
    assert kept.double().mean().item() == pytest.approx(0.75, abs=5 * (0.25 * 0.75 / 2000) ** 0.5)
    torch.testing.assert_close(top, bottom * kept.double() / 0.75)
    (grad,) = torch.autograd.grad(top, bottom, torch.ones_like(top))
    torch.testing.assert_close(grad, kept.double() / 0.75)


def test_seeded_masks_are_caffes_and_new_each_time() -> None:
    random.set_seed(9)
    layer, bottom = make_dropout(0.5), torch.ones(50, 40)
    tops = [layer(bottom), layer(bottom)]
    stream = random.CaffeGenerator(9)
    for top in tops:
        assert torch.equal(top, 2 * torch.from_numpy(stream.bernoulli((50, 40), 0.5)))
    assert not torch.equal(*tops)


def test_compiled_layers_of_one_bottom_draw_in_turn() -> None:
    first, second = make_dropout(0.5), make_dropout(0.5)

    def both(bottom: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return first(bottom), second(bottom)

    bottom = torch.ones(50, 40)
    random.set_seed(9)
    expected = [both(bottom), both(bottom)]
    random.set_seed(9)
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close([compiled(bottom), compiled(bottom)], expected, rtol=0, atol=0)
    torch.compiler.reset()


def test_operator() -> None:
    random.set_seed(1)
    # A random operator has no two equal runs, so only schema and fake kernel can be checked.
    torch.library.opcheck(
        torch.ops.caffe_compat.dropout_mask, (torch.ones(3, 4), 0.5, 1), test_utils=("test_schema", "test_faketensor")
    )


def test_ratio_zero_keeps_everything() -> None:
    bottom = noise(50, 40)
    assert torch.equal(make_dropout(0)(bottom), bottom)


@pytest.mark.parametrize("ratio", [-0.5, 1, 1.5])
def test_refuses_a_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(NetError, match="dropout_ratio is"):
        make_dropout(ratio)


@on_devices
def test_scale_train_false_scales_in_test(device: str) -> None:
    fields = "dropout_param { dropout_ratio: 0.25 scale_train: false }"
    layer = make_layer(Dropout, fields, (3, 4), device=device)
    bottom = noise(3, 4, device=device)
    check_layer(layer, bottom)
    assert torch.equal(layer(bottom), 0.75 * bottom)


@on_devices
@pytest.mark.parametrize("seeded", [False, True])
def test_scale_train_false_only_drops_in_training(device: str, seeded: bool) -> None:
    if seeded:
        random.set_seed(1)
    fields = "dropout_param { dropout_ratio: 0.25 scale_train: false }"
    layer = make_layer(Dropout, fields, (50, 40), phase="TRAIN", device=device)
    bottom = noise(50, 40, device=device)
    top = layer(bottom)
    kept = top != 0
    assert kept.double().mean().item() == pytest.approx(0.75, abs=5 * (0.25 * 0.75 / 2000) ** 0.5)
    assert torch.equal(top, bottom * kept)
    (grad,) = torch.autograd.grad(top, bottom, torch.ones_like(top))
    assert torch.equal(grad, kept.double())


def test_sample_weights_test_drops_in_test_as_in_training() -> None:
    fields = "dropout_param { dropout_ratio: 0.5 sample_weights_test: true }"
    tops = []
    for phase in ("TRAIN", "TEST"):
        random.set_seed(9)
        tops.append(make_layer(Dropout, fields, (50, 40), phase=phase)(noise(50, 40)))
    assert torch.equal(*tops)
    assert not torch.equal(tops[0], noise(50, 40))


def test_onnx() -> None:
    check_onnx('type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }', numbers(3, 4))
    with pytest.raises(NetError, match="sample_weights_test, which draws at random, has no ONNX form"):
        check_onnx('type: "Dropout" dropout_param { sample_weights_test: true }', numbers(3, 4))
