"""Binary nets of forks: as the forks' own protobuf classes write them, told apart, refused, and written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe_compat.errors import ProtoError
from caffe_compat.net import Net
from caffe_compat.proto import (
    caffe_pb2,
    extend_schema,
    message_weights,
    parse_message,
    read_caffemodel,
    read_message,
    read_net,
    write_binary_message,
    write_caffemodel,
)
from caffe_compat.proto.fork_files import KnownFields, net_writer, translate_net
from caffe_compat.proto.fork_numbers import CAFFE, built_in, write_numbers

NETS = json.loads((Path(__file__).parents[1] / "golden" / "forks" / "nets.json").read_text())


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_message(text, caffe_pb2.NetParameter())


def in_numbers(text: str, fork: str) -> bytes:
    """The bytes that a fork writes for a net."""
    (numbering,) = (found for found in (CAFFE, *built_in()) if found.name == fork)
    data = write_numbers(net(text).SerializePartialToString(), caffe_pb2.NetParameter.DESCRIPTOR, numbering)
    assert data is not None
    return data


@pytest.mark.parametrize("case", NETS, ids=[case["fork"] for case in NETS])
def test_a_net_of_a_fork_is_read_and_written_as_the_fork_does(case: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(bytes.fromhex(case["hex"]))
    expected = net(case["text"])
    assert read_message(path, caffe_pb2.NetParameter()) == expected
    assert in_numbers(case["text"], case["fork"]) == bytes.fromhex(case["hex"]) or _sorted(case)
    again = tmp_path / "again.caffemodel"
    write_binary_message(again, expected)
    assert read_message(again, caffe_pb2.NetParameter()) == expected


def _sorted(case: dict[str, str]) -> bool:
    """The same fields in another order: ours are written in the order of our numbers."""
    return sorted(in_numbers(case["text"], case["fork"])) == sorted(bytes.fromhex(case["hex"]))


def test_a_net_of_caffe_stays_as_it_is() -> None:
    text = """layer { name: "e" type: "Embed" embed_param { input_dim: 3 } } layer { name: "c" type: "Clip" clip_param {
        min: 0 max: 1 } } layer { name: "o" type: "Own" tile_param { tiles: 2 } } layer { name: "p" type: "Pooling"
        pooling_param { round_mode: FLOOR } } layer { name: "stray" type: "ReLU" scale_param { axis: 2 } }"""
    data = net(text).SerializeToString()
    assert translate_net(data, "net") is data
    assert net_writer(net(text), "net")(data, caffe_pb2.NetParameter.DESCRIPTOR) is data
    old = net('layers { name: "d" type: DECONVOLUTION convolution_param { num_output: 2 } }').SerializeToString()
    assert translate_net(old, "net") is old
    assert translate_net(data[:-1], "net") == data[:-1]  # protobuf will refuse it
    assert translate_net(b"\xff", "net") == b"\xff"


def test_weights_and_net_from_one_file_of_a_fork(tmp_path: Path) -> None:
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
        layer { name: "loss" type: "Theirs" bottom: "y" top: "l" smooth_l1_loss_param { sigma: 2 } }"""
    weight, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([3, 4], np.float32)
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, net(text), {"fc": [weight, bias]})
    (fc,) = (layer for layer in read_caffemodel(path) if layer.blobs)
    assert [np.asarray(blob).tolist() for blob in fc.blobs] == [weight.tolist(), bias.tolist()]
    read = read_net(path)
    assert read.layer[2].smooth_l1_loss_param.sigma == 2
    assert message_weights(read)[1].blobs[0].tolist() == weight.tolist()  # type: ignore[union-attr]


def test_values_as_raw_bytes_in_a_net(tmp_path: Path) -> None:
    half = np.array([[1.5, -2]], "<f2")
    layer = caffe_pb2.LayerParameter(name="fc", type="InnerProduct", bottom=["x"], top=["y"])
    layer.inner_product_param.num_output = 1
    layer.inner_product_param.bias_term = False
    layer.blobs.add(raw_data_type=caffe_pb2.FLOAT16, raw_data=half.tobytes()).shape.dim.extend([1, 2])
    whole = net('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }')
    whole.layer.add().CopyFrom(layer)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(whole.SerializeToString())
    assert Net(path, path, phase="TEST").get_parameter("fc.weight").tolist() == half.tolist()


@pytest.mark.parametrize(
    ("text", "fork", "message"),
    [
        (
            'layer { name: "d" type: "Dropout" dropout_param { scale_train: false } }',
            "Faster R-CNN",
            'f: a binary net with numbers that Caffe 1.0 does not have (layer "d" (Dropout): number 2 of '
            "DropoutParameter), and they mean different things in Faster R-CNN = R-FCN = CTPN or SegNet or NVCaffe",
        ),
        (
            'layer { name: "b" type: "BN" bn_param { } }',
            "SegNet",
            None,  # 45 is SegNet's alone
        ),
    ],
)
def test_what_cannot_be_told_apart_is_refused(text: str, fork: str, message: str | None) -> None:
    data = in_numbers(text, fork)
    if message is None:
        assert translate_net(data, "f") == net(text).SerializeToString()
        return
    with pytest.raises(ProtoError) as caught:
        translate_net(data, "f")
    assert str(caught.value).startswith(message)
    assert "give the net as prototxt, or the fork's caffe.proto with --schema" in str(caught.value)


def test_other_layers_tell_what_one_does_not() -> None:
    dropout = 'layer { name: "d" type: "Dropout" dropout_param { %s } }'
    roi = 'layer { type: "ROIPooling" roi_pooling_param { pooled_h: 2 } } '
    with_rois = roi + dropout % "scale_train: false"
    assert translate_net(in_numbers(with_rois, "Faster R-CNN"), "f") == net(with_rois).SerializeToString()
    segnet = 'layer { type: "Upsample" upsample_param { scale: 2 } } ' + dropout % "sample_weights_test: true"
    assert translate_net(in_numbers(segnet, "SegNet"), "f") == net(segnet).SerializeToString()


def test_a_stray_field_where_another_layer_tells_the_fork() -> None:
    # As in a model of NormFace: InnerProduct with the field of InnerDistance, and a layer of caffe-windows alone.
    stray = 'layer { name: "ip" type: "InnerProduct" inner_distance_param { num_output: 2 } } '
    own = 'layer { name: "d" type: "InnerDistance" inner_distance_param { num_output: 3 } }'
    data = in_numbers(stray + own, "caffe-windows")
    assert translate_net(data, "f") == net(stray + own).SerializeToString()
    with pytest.warns(UserWarning, match=r'left out, .*: layer "ip" \(InnerProduct\): number 213 of LayerParameter'):
        translate_net(in_numbers(stray, "caffe-windows"), "f")


def test_numbers_of_nobody_are_left_out_with_a_line() -> None:
    data = bytes.fromhex("a2060f0a0161120154e2a60102080150ac02")  # layer { name: "a" type: "T" 2668 { 1: 1 } 10: 300 }
    with pytest.warns(UserWarning, match="read as a net of Caffe 1.0; left out, as neither Caffe nor one fork") as said:
        translated = translate_net(data, "f")
    assert translated.hex() == "a206060a0161120154"
    assert 'layer "a" (T): number 2668 of LayerParameter' in str(said[0].message)


@pytest.fixture
def restored_schema() -> Iterator[None]:
    before = caffe_pb2.current_schema()
    yield
    caffe_pb2.use_schema(before)


def test_the_users_schema_says_what_numbers_mean(restored_schema: None, tmp_path: Path) -> None:
    (tmp_path / "mine.proto").write_text(
        "message LayerParameter { optional MineParameter mine_param = 142; }"
        "extend LayerParameter { optional PermuteParameter permute_param = 147; }"
        "message MineParameter { required int32 size = 3; } message PoolingParameter { optional bool ceil_mode = 13; }"
    )
    with pytest.warns(UserWarning, match="PoolingParameter.ceil_mode has the default false there and true here"):
        extend_schema(tmp_path / "mine.proto")
    whole: Any = net(
        'layer { type: "Mine" mine_param { size: 4 } } layer { type: "Permute" permute_param { order: 1 } } '
        'layer { type: "Pooling" pooling_param { ceil_mode: false } }'
    )
    path = tmp_path / "net.caffemodel"
    write_binary_message(path, whole)
    # 142 { 3: 4 }, 147 { 1: 1 }, pooling_param 121 { 13: 0 }
    for part in ("f208021804", "9a09020801", "ca07026800"):
        assert part in path.read_bytes().hex()
    assert read_message(path, caffe_pb2.NetParameter()) == whole


def test_fields_of_several_forks_in_one_net(tmp_path: Path) -> None:
    mixed = net(
        'layer { type: "Interp" interp_param { height: 2 } } layer { type: "Permute" permute_param { order: 1 } }'
    )
    with pytest.warns(
        UserWarning, match="written with numbers that only caffe_compat reads, as no single fork of Caffe"
    ):
        write_binary_message(tmp_path / "net.caffemodel", mixed)
    assert read_message(tmp_path / "net.caffemodel", caffe_pb2.NetParameter()) == mixed


def test_fields_that_belong_to_a_type() -> None:
    strange = KnownFields().strange
    assert strange("Embed", ["embed_param", "python_param", "loss_param"]) == []
    assert strange("Embed", ["upsample_param"]) == ["upsample_param"]
    assert strange("Upsample", ["embed_param", "upsample_param"]) == ["embed_param"]
    assert strange("NobodysType", ["embed_param", "upsample_param"]) == []
    assert strange("NobodysType", ["insanity_param"]) == ["insanity_param"]
    assert strange("BoxOutput", ["bbox_reg_param", "box_output_param"]) == []
    assert strange("CROP", []) == []
    assert strange("DECONVOLUTION", ["image_data_param"]) == ["without convolution_param"]
    assert strange("InnerProduct", ["quantization_param"]) == []
    assert strange("ImResize", ["quantization_param"]) == ["quantization_param"]


def test_text_of_a_fork_is_no_other_message(tmp_path: Path) -> None:
    for case in NETS:
        path = tmp_path / "net.prototxt"
        path.write_text(case["text"])
        assert read_message(path, caffe_pb2.NetParameter()) == text_format.Parse(case["text"], caffe_pb2.NetParameter())
