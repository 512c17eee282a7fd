"""Messages to files."""

from caffe_compat.proto import parse_net, read_net, write_text_message


def test_text_round_trip(tmp_path):
    net = parse_net('name: "\u00e9\u4e2d\\n\\"" layer { loss_weight: [0.1, inf, -nan, 1e-30] }')
    write_text_message(tmp_path / "n.prototxt", net)
    assert str(read_net(tmp_path / "n.prototxt")) == str(net)
