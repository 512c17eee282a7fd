"""Checks of a layer before it is set up."""

import pytest

from caffe_compat import NetError
from tests.net.prototxt import DATA, net


def test_unknown_types_are_all_named() -> None:
    text = (
        DATA
        + 'layer { name: "a" type: "Foo" bottom: "data" top: "a" }'
        + 'layer { name: "b" type: "Rellu" bottom: "a" top: "b" }'
    )
    with pytest.raises(NetError, match=r'2 layer.*"a" has type "Foo".*"b" has type "Rellu" \(did you mean ReLU'):
        net(text)


def test_field_of_another_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r'layer "r" \(ReLU\): field pooling_param has no effect'):
        net(DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" pooling_param { kernel_size: 2 } }')
