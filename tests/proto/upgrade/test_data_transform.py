"""V1 data layers' fields to transform_param."""

import pytest

from caffe_compat.proto import caffe_pb2, parse_message, parse_net
from caffe_compat.proto.upgrade import data_transform


def test_all_data_layers_get_both_messages_once_one_is_upgraded() -> None:
    # As Caffe leaves them: present, though empty.
    net = parse_net('layers { type: DATA name: "a" } layers { type: IMAGE_DATA image_data_param { scale: 2 } }')
    assert net.layer[0].HasField("data_param")
    assert net.layer[0].HasField("transform_param")
    assert net.layer[1].transform_param.scale == 2
    net = parse_net('layers { type: DATA name: "a" }')
    assert not net.layer[0].HasField("transform_param")


@pytest.mark.parametrize(
    ("kind", "message"),
    [("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param")],
)
def test_the_four_fields_move(kind: str, message: str) -> None:
    fields = 'source: "s" batch_size: 3 scale: 0.5 mean_file: "m" crop_size: 7 mirror: true'
    (layer,) = parse_net(f'layers {{ type: {kind} name: "a" {message} {{ {fields} }} }}').layer
    transform = layer.transform_param
    assert (transform.scale, transform.mean_file, transform.crop_size, transform.mirror) == (0.5, "m", 7, True)
    assert [field.name for field, _ in getattr(layer, message).ListFields()] == ["source", "batch_size"]


def test_needs_upgrade() -> None:
    for text, needed in (
        ("layers { type: DATA data_param { scale: 1 } }", True),
        ("layers { type: DATA data_param { batch_size: 1 } }", False),
        ("layers { type: IMAGE_DATA data_param { scale: 1 } }", False),  # not this type's own message
        ("layers { type: DATA transform_param { scale: 1 } }", False),
    ):
        assert data_transform.needs_upgrade(parse_message(text, caffe_pb2.NetParameter())) == needed, text
