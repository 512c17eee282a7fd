"""V1 CROP against the offsets that the FCN authors wrote into their later files."""

import re

import pytest

from caffe_compat import Net
from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_net

INPUT = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 40 input_dim: 40\n'


def layer(kind: str, name: str, bottoms: str, fields: str = "") -> str:
    names = "".join(f'bottom: "{bottom}" ' for bottom in bottoms.split())
    return f'layers {{ type: {kind} name: "{name}" {names} top: "{name}" {fields} }}\n'


def conv(name: str, bottom: str, kernel: int, pad: int = 0, stride: int = 1, *, kind: str = "CONVOLUTION") -> str:
    fields = f"convolution_param {{ num_output: 2 kernel_size: {kernel} pad: {pad} stride: {stride} }}"
    return layer(kind, name, bottom, fields)


def fcn8s() -> str:
    """The windows of FCN-8s: VGG-16 with pad 100, its classifier 7 x 7, and three deconvolutions with crops."""
    text, bottom = INPUT, "data"
    for stage, convs in enumerate((2, 2, 3, 3, 3), 1):
        for number in range(1, convs + 1):
            name = f"conv{stage}_{number}"
            text += conv(name, bottom, 3, 100 if (stage, number) == (1, 1) else 1)
            text += f'layers {{ type: RELU name: "{name}r" bottom: "{name}" top: "{name}" }}\n'
            bottom = name
        text += layer("POOLING", f"pool{stage}", bottom, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        bottom = f"pool{stage}"
    text += conv("fc6", "pool5", 7) + conv("fc7", "fc6", 1) + conv("score_fr", "fc7", 1)
    text += conv("up2", "score_fr", 4, 0, 2, kind="DECONVOLUTION")
    text += conv("score_pool4", "pool4", 1) + layer("CROP", "score_pool4c", "score_pool4 up2")
    text += layer("ELTWISE", "fuse4", "up2 score_pool4c")
    text += conv("up4", "fuse4", 4, 0, 2, kind="DECONVOLUTION")
    text += conv("score_pool3", "pool3", 1) + layer("CROP", "score_pool3c", "score_pool3 up4")
    text += layer("ELTWISE", "fuse3", "up4 score_pool3c")
    text += conv("up8", "fuse3", 16, 0, 8, kind="DECONVOLUTION")
    return text + layer("CROP", "score", "up8 data")


def crops(net: caffe_pb2.NetParameter) -> dict[str, list[int]]:
    return {one.name: list(one.crop_param.offset) for one in net.layer if one.type == "Crop"}


def test_the_offsets_of_fcn8s() -> None:
    # voc-fcn8s/train.prototxt of its authors says offset: 5, 9 and 31.
    net = parse_net(fcn8s())
    assert crops(net) == {"score_pool4c": [5, 5], "score_pool3c": [9, 9], "score": [31, 31]}
    assert all(one.crop_param.axis == 2 for one in net.layer if one.type == "Crop")
    assert Net(net, phase="TEST").blob_shapes["score"] == (1, 2, 40, 40)


def test_the_offset_of_fcn32s() -> None:
    # voc-fcn32s: offset: 19
    text = re.sub(r'layers \{ type: DECONVOLUTION name: "up2".*', "", fcn8s(), flags=re.DOTALL)
    text += conv("upscore", "score_fr", 64, 0, 32, kind="DECONVOLUTION") + layer("CROP", "score", "upscore data")
    assert crops(parse_net(text)) == {"score": [19, 19]}


def test_height_and_width_and_a_crop_in_the_way() -> None:
    fields = "convolution_param { num_output: 1 kernel_h: 3 kernel_w: 5 pad_h: 3 pad_w: 4 }"
    text = INPUT + layer("CONVOLUTION", "a", "data", fields)
    text += layer("CROP", "b", "a data") + conv("c", "b", 3, 2) + layer("CROP", "d", "c data")
    assert crops(parse_net(text)) == {"b": [2, 2], "d": [1, 1]}
    wide = fields.replace("pad_w: 4", "pad_w: 6")
    assert crops(parse_net(text.replace(fields, wide)))["b"] == [2, 4]


@pytest.mark.parametrize("kind", ["AlignedCrop", "AutoCrop"])
def test_a_current_layer_may_ask_for_it(kind: str) -> None:
    text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 5 dim: 5 } } }'
    text += 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 3 pad: 2 } }'
    text += f'layer {{ name: "c" type: "{kind}" bottom: "p" bottom: "x" top: "c" }}'
    assert crops(parse_net(text)) == {"c": [1, 1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            conv("a", "data", 3) + layer("CROP", "c", "a data"),
            "place 1 x \\+ 1 of the other",
        ),
        (conv("a", "data", 2, 2) + layer("CROP", "c", "a data"), "place 1 x \\+ -3/2 of the other"),
        (conv("a", "data", 3, 1, 2) + layer("CROP", "c", "a data"), "place 2 x \\+ 0 of the other"),
        (layer("CROP", "c", "data other"), "come from no blob in common"),
        (layer("FLATTEN", "a", "data") + layer("CROP", "c", "a data"), r'"a".*\(Flatten\) has no map of places'),
        (layer("CROP", "c", "data"), "has 1 bottoms; expected what to crop and its size"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ProtoError, match=message):
        parse_net(INPUT + text)
