import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.prior_box import PriorBox
from caffe_compat.layers.shared.fields import refuse_fields
from tests.layers.harness import make_layer


def test_refuse_fields() -> None:
    layer = make_layer(PriorBox, "prior_box_param { min_size: 3 flip: true }", (1, 1, 1, 1), (1, 1, 3, 3))
    refuse_fields(layer, "prior_box_param", "width", "clip", because="remove it")
    message = r"prior_box_param\.min_size, flip: PriorBox here does not read it; remove it"
    with pytest.raises(NetError, match=message):
        refuse_fields(layer, "prior_box_param", "min_size", "clip", "flip", because="remove it")
