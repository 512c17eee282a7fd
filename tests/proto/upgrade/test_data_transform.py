"""V1 data layers' fields to transform_param."""

from caffe_compat.proto import parse_net


def test_all_data_layers_get_both_messages_once_one_is_upgraded():
    # As Caffe leaves them: present, though empty.
    net = parse_net('layers { type: DATA name: "a" } layers { type: IMAGE_DATA image_data_param { scale: 2 } }')
    assert net.layer[0].HasField("data_param")
    assert net.layer[0].HasField("transform_param")
    assert net.layer[1].transform_param.scale == 2
    net = parse_net('layers { type: DATA name: "a" }')
    assert not net.layer[0].HasField("transform_param")
