"""Legacy inputs to an Input layer."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import parse_net
from tests.proto.upgrade.v0_text import V0_DATA


def test_inputs_without_sizes_are_removed():
    net = parse_net('input: "data" layer { name: "r" }')
    assert [layer.name for layer in net.layer] == ["r"]
    assert not net.input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('input: "more"', ": 2 input(s) need 8 input_dim entries; there are 4"),
        ("input: 'more' input_shape { }", ": 2 input(s) need 2 input_shape entries; there are 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*dropped")
def test_refusals(text, message):
    with pytest.raises(ProtoError) as caught:
        parse_net(V0_DATA + text, "net.prototxt")
    assert str(caught.value).startswith(f"net.prototxt{message}")
