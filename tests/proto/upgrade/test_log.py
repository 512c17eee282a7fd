"""What an upgrade tells."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import Source, caffe_pb2, parse_message
from caffe_compat.proto.upgrade import UpgradeLog, upgrade_net_logged
from tests.proto.upgrade.v0_text import V0_DATA, v0_layer

LOG_TEXT = '\nlayers { name: "a" }\n'


def test_places_stand_in_front_and_text_stays_on_one_line() -> None:
    log = UpgradeLog(Source("net", LOG_TEXT))
    log.problem("a", "field\nx was dropped")
    log.note("field y was dropped")
    assert log.problems == ['net:2: layer "a": field\\nx was dropped']
    assert log.notes == ["net: field y was dropped"]
    assert not log.changed


def test_refusals_raise() -> None:
    log = UpgradeLog(Source("net", LOG_TEXT))
    with pytest.raises(ProtoError, match=r'^net:2: layer "a": is wrong$'):
        log.fail("a", "is wrong")
    with pytest.raises(ProtoError, match=r"^net: is\\twrong$"):
        log.fail_net("is\twrong")


def test_problems_and_notes_of_an_upgrade() -> None:
    text = V0_DATA + v0_layer('type: "relu" name: "r" num_output: 3 new_num: 1')
    net = parse_message(text, caffe_pb2.NetParameter())
    log = upgrade_net_logged(net, Source("net", text))
    assert log.changed
    assert log.problems == ['net:2: layer "r": field num_output does not fit V0 type "relu" and was dropped']
    assert log.notes == ['net: layer "r": new_num was never implemented and was dropped']
