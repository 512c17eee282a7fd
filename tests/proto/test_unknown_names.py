"""Names in prototxts that the schema does not know."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_message, parse_net
from caffe_compat.proto.unknown_names import Unknown, UnknownNamesError, listed, unknown_names

NET = caffe_pb2.NetParameter.DESCRIPTOR


def field(owner: str, name: str, line: int) -> Unknown:
    return Unknown(owner, name, line, is_value=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name: "a" layer { name: "b" }', []),
        ("a: 1", [field("NetParameter", "a", 1)]),
        ("layer {\n a: 1\n b { name: 1 c { d: [{ e: 1 }] } }\n bottom: 'x' }", [
            field("LayerParameter", "a", 2), field("LayerParameter", "b", 3)]),
        ('layer: < a: "x" "y" \'z\' b: 2 >', [field("LayerParameter", "a", 1), field("LayerParameter", "b", 1)]),
        ("input_dim: [1, 2]\ninput_shape [{ dim: 1 a: 2 }, { dim: 2\nb: 3 }] c: [x, y] d: -inf", [
            field("BlobShape", "a", 2), field("BlobShape", "b", 3), field("NetParameter", "c", 3),
            field("NetParameter", "d", 3)]),
        ("layer { pooling_param { pool: NOPE engine: 1 } phase: TEST } # a: 1", [
            Unknown("PoolingParameter.PoolMethod", "NOPE", 1, is_value=True)]),
        ('name: "layer { a: 1 }"\nlayers { type: NOPE\n relu_param { engine: MKLDNN a { } } }', [
            Unknown("V1LayerParameter.LayerType", "NOPE", 2, is_value=True), field("ReLUParameter", "a", 3)]),
        ("state { phase: TEST }, force_backward: true; a: t", [field("NetParameter", "a", 1)]),
    ],
)  # fmt: skip
def test_all_are_found(text: str, expected: list[Unknown]) -> None:
    assert unknown_names(text, NET) == expected


def test_how_they_are_listed() -> None:
    assert listed([field("A", "a", 3)]) == '"a" of A (line 3)'
    assert listed([field("A", "a", n) for n in (3, 5, 7, 9, 11)]) == '"a" of A (lines 3, 5, 7 and 2 more)'
    assert listed([Unknown("A.E", "X", 1, is_value=True)]) == "value X of A.E (line 1)"


def test_what_the_error_brings() -> None:
    text = 'layers { type: RELU name: "r" a: 1 }\nlayers { type: RELU name: "s" a: 1 relu_paran { } }'
    with pytest.raises(UnknownNamesError) as caught:
        parse_net(text, "net.prototxt")
    assert [(layer.name, layer.type) for layer in caught.value.net.layer] == [("r", "ReLU"), ("s", "ReLU")]
    assert caught.value.said == (
        'of no fork known here: "a" of V1LayerParameter (lines 1, 2), "relu_paran" of V1LayerParameter (line 2; did '
        "you mean relu_param?)"
    )
    assert str(caught.value).startswith(
        f"net.prototxt: 2 fields and values that are unknown here: {caught.value.said}; "
    )
    with pytest.raises(UnknownNamesError) as caught:
        parse_message("a: 1", caffe_pb2.SolverParameter())
    assert caught.value.net is None


def test_unknown_blocks_of_any_depth() -> None:
    with pytest.raises(UnknownNamesError, match='has no field "a"') as caught:
        parse_net("a { " * 5000)
    assert caught.value.net is None


WORDS = [
    "layer",
    "name:",
    '"a"',
    "type:",
    "{",
    "}",
    "<",
    ">",
    ":",
    "[",
    "]",
    ",",
    ";",
    "-1",
    "'",
    "#",
    "\n",
    "a.b",
    "a",
]


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.sampled_from([*WORDS, "phase: X", "pooling_param"]), max_size=14))
def test_any_text_is_looked_through(words: list[str]) -> None:
    text = " ".join(words)
    found = unknown_names(text, NET)
    assert all(1 <= item.line <= text.count("\n") + 1 for item in found)
    try:
        parse_net(text)
    except ProtoError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some texts are valid
    else:
        assert found == []
