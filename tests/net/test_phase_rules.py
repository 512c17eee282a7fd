"""Which layers take part."""

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
