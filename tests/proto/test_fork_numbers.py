"""Numbers of forks: the table, and messages read and written in them."""

from collections.abc import Collection
from typing import Any

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_message
from caffe_compat.proto.fork_numbers import (
    CAFFE,
    OURS,
    Numbering,
    built_in,
    knows,
    numbering_of,
    numbers_in,
    read_numbers,
    write_numbers,
)
from caffe_compat.proto.schema import load_schema
from caffe_compat.proto.schema_text import parse_schema


class AnyType:
    """Each field belongs to each type."""

    def strange(self, kind: str, names: Collection[str]) -> list[str]:
        return []

    def own(self, kind: str, names: Collection[str]) -> bool:
        return False


any_type = AnyType()


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_message(text, caffe_pb2.NetParameter())


def test_the_table_names_messages_and_enums_of_ours() -> None:
    known = load_schema().classes
    *forks, ours = built_in()
    assert ours is OURS
    assert len({fork.name for fork in forks}) == len(forks) == 31
    for fork in forks:
        for name, items in fork.table.items():
            message, _, enum = name.partition(".")
            assert f"caffe.{message}" in known, f"{fork.name}: {name}"
            assert not enum or enum in known[f"caffe.{message}"].DESCRIPTOR.enum_types_by_name, f"{fork.name}: {name}"
            assert len(set(items.values())) == len(items), f"{fork.name}: {name}"


@pytest.mark.parametrize(
    ("fork", "message", "number", "field"),
    [
        # the table of clashes in 45 .proto files, as far as these forks are known here
        ("SSD", "LayerParameter", 202, "permute_param"),
        ("Faster R-CNN", "LayerParameter", 8266712, "smooth_l1_loss_param"),
        ("R-FCN", "LayerParameter", 10001, "psroi_pooling_param"),
        ("SegNet", "LayerParameter", 137, "upsample_param"),
        ("CTPN", "LayerParameter", 144, "bn_param"),
        ("PSPNet", "LayerParameter", 143, "interp_param"),
        ("NVCaffe", "LayerParameter", 147, "forward_math"),
        ("Intel Caffe", "LayerParameter", 149, "engine"),
        ("MS-CNN", "LayerParameter", 148, "smooth_l1_loss_param"),
        ("Cascade R-CNN", "LayerParameter", 148, "psroi_pooling_param"),
        ("OpenPose", "LayerParameter", 149, "nms_param"),
        ("SphereFace", "LayerParameter", 147, "margin_inner_product_param"),
        ("FlowNet 2", "LayerParameter", 150, "correlation_param"),
        ("MobileNet-YOLO", "LayerParameter", 150, "upsample_param"),
        ("caffe-yolov2", "LayerParameter", 201, "eval_detection_param"),
        ("caffe-windows", "LayerParameter", 224, "permute_param"),
        ("CRF-RNN of 2015", "LayerParameter", 146, "multi_stage_meanfield_param"),
        ("DeepLab 1", "ConvolutionParameter", 17, "hole"),
        ("Cascade R-CNN", "PoolingParameter", 13, "ceil_mode"),
        ("Intel Caffe", "PoolingParameter", 13, "avg_include_pad"),
        ("SegNet", "LossParameter", 3, "weight_by_label_freqs"),
        ("Faster R-CNN", "DropoutParameter", 2, "scale_train"),
        ("SegNet", "DropoutParameter", 2, "sample_weights_test"),
        ("NVCaffe", "DropoutParameter", 2, "engine"),
        ("temporal segment networks", "ConvolutionParameter", 16, "dilation"),
        ("DeepLab 1", "V1LayerParameter.LayerType", 39, "IMAGE_SEG_DATA"),
        ("FCN", "V1LayerParameter.LayerType", 40, "CROP"),
    ],
)
def test_what_a_number_means(fork: str, message: str, number: int, field: str) -> None:
    (found,) = (numbering for numbering in built_in() if numbering.name == fork)
    assert found.table[message][number] == field


MINE = Numbering(
    "mine",
    {
        "LayerParameter": {142: "permute_param", 300: "nobody_knows", 160: "scale_param"},
        "LossParameter.NormalizationMode": {3: "PRE_FIXED", 4: "NONE"},
    },
)


def test_numbers_and_values_of_a_fork_become_ours_and_back() -> None:
    ours = net(
        'name: "n" layer { name: "a" permute_param { order: 3 } scale_param { axis: 2 } '
        "blobs { data: 7 shape { dim: 1 } } "
        "loss_param { normalization: PRE_FIXED } } layer { loss_param { normalization: NONE } }"
    )
    data = ours.SerializeToString()
    theirs = write_numbers(data, ours.DESCRIPTOR, MINE)
    assert theirs is not None
    # name 1 = "a", permute 142 { 1: 3 }, scale 160 { 1: 2 }, loss 101 { 3: 3 }, and again loss { 3: 4 }
    for part in ("0a0161", "f208020803", "82 0a 020802".replace(" ", ""), "aa06021803", "aa06021804"):
        assert part in theirs.hex()
    reading = read_numbers(theirs, MINE, any_type)
    assert (reading.problems, reading.left_out, reading.broken) == ([], [], False)
    again = caffe_pb2.NetParameter()
    again.ParseFromString(reading.data)
    assert again == ours
    assert b"".join(bytes(piece) for piece in reading.pieces) == reading.data
    assert len(reading.meaning) < len(reading.data)  # the array is left out


def test_what_a_fork_cannot_say() -> None:
    ours = net("layer { interp_param { height: 2 } }")
    assert write_numbers(ours.SerializeToString(), ours.DESCRIPTOR, MINE) is None
    value = net("layer { convolution_param { engine: MKLDNN } }")
    assert write_numbers(value.SerializeToString(), value.DESCRIPTOR, CAFFE) is None
    assert write_numbers(value.SerializeToString(), value.DESCRIPTOR, OURS) == value.SerializeToString()


def read(data: str, numbering: Numbering = CAFFE) -> Any:
    return read_numbers(bytes.fromhex(data), numbering, any_type)


def test_what_speaks_against_a_numbering() -> None:
    # layer 100 { name "a", type "T", ... }
    layer = "a206{:02x}0a01611201 54".replace(" ", "")
    assert read(layer.format(6 + 3) + "b80903").problems == ['layer "a" (T): number 151 of LayerParameter']
    assert read(layer.format(6 + 3) + "880900").problems == ['layer "a" (T): number 145 of LayerParameter']  # a varint
    engine = layer.format(6 + 5) + "d206027803"  # convolution_param { engine: 3 }
    assert read(engine).problems == ['layer "a" (T): number 15 of ConvolutionParameter engine: 3']
    damaged = read(layer.format(6 + 4) + "d2060178")
    assert damaged.problems == ['layer "a" (T): number 106 of LayerParameter (damaged)']
    assert damaged.broken
    assert read("5803").problems == ["number 11 of NetParameter"]
    assert len(read("58036003").problems) == 2
    short = read_numbers(bytes.fromhex("58036003"), CAFFE, any_type, give_up=True)
    assert (short.problems, short.data) == (["number 11 of NetParameter"], b"")
    known = read(layer.format(6 + 5) + "e212020801", MINE)
    assert (known.problems, known.left_out) == ([], ['layer "a" (T): number 300 of LayerParameter nobody_knows'])
    assert read("a206021003").problems == ['layer "" (): number 2 of LayerParameter']  # type: 3
    with pytest.raises(ProtoError, match="needs 9 bytes"):
        read("a20609")


def test_numbers_in_a_net() -> None:
    data = bytes.fromhex("0a016ea206080a0161f20802080312022803")  # name, layer { name, 142 }, layers { type }
    found = numbers_in(data)
    assert found == {"NetParameter": {1, 2, 100}, "LayerParameter": {1, 142}, "V1LayerParameter": {5}}
    assert [knows(numbering, found) for numbering in (CAFFE, MINE)] == [True, True]
    assert not knows(CAFFE, {"LayerParameter": {160}})
    assert knows(MINE, {"LayerParameter": {160}})


def test_the_numbers_of_a_file() -> None:
    text = "enum E { A = 3; } message M { enum F { B = 4; } message N { optional int32 c = 5; } optional F d = 6; }"
    assert numbering_of(parse_schema(text, "mine.proto")[0]) == Numbering(
        "mine.proto", {"E": {3: "A"}, "M": {6: "d"}, "M.F": {4: "B"}, "M.N": {5: "c"}}
    )
