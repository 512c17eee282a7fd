import pytest
import torch
from google.protobuf import text_format

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.shared.example import Dice
from caffe_compat.layers.shared.loss import check_same_batch, normalization_mode, normalizer, random_normalization
from caffe_compat.proto import caffe_pb2

LAYER = Layer(caffe_pb2.LayerParameter(name="it"))


def loss_param(text: str) -> caffe_pb2.LossParameter:
    return text_format.Parse(text, caffe_pb2.LossParameter())


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "VALID"),
        ("normalization: FULL", "FULL"),
        ("normalization: NONE", "NONE"),
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: false normalization: FULL", "FULL"),  # the new field wins
    ],
)
def test_normalization_mode(text: str, mode: str) -> None:
    assert normalization_mode(loss_param(text)) == mode


@pytest.mark.parametrize(
    ("mode", "valid", "divisor"),
    [("VALID", 7, 7), ("VALID", 0, 1), ("FULL", 7, 12), ("BATCH_SIZE", 7, 4), ("NONE", 7, 1)],
)
def test_normalizer(mode: str, valid: float, divisor: float) -> None:
    found = normalizer(mode, 4, 3, torch.tensor(valid, dtype=torch.float64))
    assert found.item() == divisor
    assert found.dtype == torch.float64


@pytest.mark.parametrize("mode", ["FULL", "BATCH_SIZE"])
def test_normalizer_of_an_empty_batch_is_1(mode: str) -> None:
    assert normalizer(mode, 0, 3, torch.tensor(0.0)).item() == 1


def test_check_same_batch() -> None:
    check_same_batch(LAYER, (4, 3), (4,))
    for data, label in (((4, 3), (3,)), ((), (3,)), ((4,), ())):
        with pytest.raises(NetError, match="expected the same first dimension"):
            check_same_batch(LAYER, data, label)


def test_random_normalization_is_a_valid_field() -> None:
    modes = {normalization_mode(loss_param(random_normalization(Dice("it", i)))) for i in range(50)}
    assert modes == {"VALID", "FULL", "BATCH_SIZE", "NONE"}
