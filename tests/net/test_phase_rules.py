"""Which layers take part."""

import pytest
from google.protobuf import text_format

from caffe_compat import NetError
from caffe_compat.net.phase_rules import filter_net, phase_value, rule_matches
from caffe_compat.proto import Source, caffe_pb2, parse_net
from tests.net.prototxt import DATA, SMALL, conv, net


def test_phase_rules_drop_the_accuracy() -> None:
    assert net(SMALL).outputs == ["loss"]


def test_level_and_stage_rules() -> None:
    text = (
        DATA
        + conv("c1", "data")
        + ('layer { name: "r" type: "ReLU" bottom: "c1" top: "r" include { min_level: 2 stage: "deploy" } }')
    )
    assert "r" not in net(text, level=2).layers
    assert "r" not in net(text, level=1, stages=["deploy"]).layers
    assert "r" in net(text, level=3, stages=["deploy", "x"]).layers


STATE = 'phase: TEST level: 2 stage: "a" stage: "b"'


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ("", True),
        ("phase: TEST", True),
        ("phase: TRAIN", False),
        ("min_level: 2", True),
        ("min_level: 3", False),
        ("max_level: 2", True),
        ("max_level: 1", False),
        ('stage: "a" stage: "b"', True),
        ('stage: "a" stage: "c"', False),  # all of them must be there
        ('not_stage: "c"', True),
        ('not_stage: "c" not_stage: "b"', False),  # none of these may
        ('phase: TEST min_level: 1 max_level: 3 stage: "a" not_stage: "c"', True),
        ('phase: TEST min_level: 1 max_level: 1 stage: "a" not_stage: "c"', False),
    ],
)
def test_rule_matches(rule: str, matches: bool) -> None:
    state = text_format.Parse(STATE, caffe_pb2.NetState())
    assert rule_matches(state, text_format.Parse(rule, caffe_pb2.NetStateRule())) == matches


@pytest.mark.parametrize(
    ("rules", "included"),
    [
        ("", True),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("include { phase: TRAIN } include { min_level: 2 }", True),  # one of them is enough
        ("exclude { phase: TRAIN }", True),
        ("exclude { phase: TRAIN } exclude { min_level: 2 }", False),
    ],
)
def test_filter_net(rules: str, included: bool) -> None:
    net = parse_net(f'name: "n" state {{ {STATE} }} layer {{ name: "a" {rules} }} layer {{ name: "b" }}')
    before = str(net)
    filtered = filter_net(net, Source())
    assert [layer.name for layer in filtered.layer] == ["a", "b"] if included else ["b"]
    assert filtered.name == "n"
    assert str(net) == before


def test_refuses_both_kinds_of_rules() -> None:
    text = '\nlayer { name: "a" include { } exclude { } }'
    with pytest.raises(NetError, match=r'^net:2: layer "a" has both include and exclude rules; give only one kind$'):
        filter_net(parse_net(text), Source("net", text))


def test_phase_value() -> None:
    assert [phase_value(phase) for phase in ("TRAIN", "train", 0)] == [caffe_pb2.TRAIN] * 3
    assert [phase_value(phase) for phase in ("TEST", "Test", 1)] == [caffe_pb2.TEST] * 3
    for wrong in ("DEPLOY", 2):
        with pytest.raises(NetError, match=f'phase is {wrong!r}; expected "TRAIN" or "TEST"'):
            phase_value(wrong)


def test_a_blob_of_a_layer_left_out_is_explained() -> None:
    text = """
layer { name: "d" type: "DummyData" top: "data" dummy_data_param { shape { dim: 1 } } include { phase: TRAIN stage: "a" } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
"""  # noqa: E501
    with pytest.raises(NetError) as caught:
        net(text, phase="TEST")
    assert str(caught.value).endswith(
        'layer "r" (ReLU): unknown bottom blob "data" (bottom 0): layer "d" makes it, but its rule include '
        '{ phase: TRAIN stage: "a" } leaves it out here, where the state is { phase: TEST level: 0 }'
    )
    with pytest.raises(NetError, match=r"rule exclude \{ phase: TEST \} leaves it out"):
        net(text.replace('include { phase: TRAIN stage: "a" }', "exclude { phase: TEST }"), phase="TEST")


def test_a_blob_that_another_layer_makes_is_fine() -> None:
    pair = "".join(
        f'layer {{ name: "d" type: "DummyData" top: "data" dummy_data_param {{ shape {{ dim: {n} }} }}'
        f" include {{ phase: {phase} }} }}"
        for n, phase in ((2, "TEST"), (1, "TRAIN"))
    )
    assert net(pair + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }', phase="TEST").blob_shapes["r"] == (2,)
