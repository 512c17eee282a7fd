"""Caffemodels: every form that Caffe wrote, exact bytes, and anything else that a file may hold."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe_compat.proto.caffemodel as caffemodel
from caffe_compat.errors import ProtoError
from caffe_compat.proto import (
    caffe_pb2,
    is_hdf5,
    message_weights,
    read_caffemodel,
    read_hdf5_weights,
    read_net,
    write_caffemodel,
)
from caffe_compat.proto.caffemodel import LayerWeights
from tests.proto.layer_arrays import arrays

IO = Path(__file__).parents[1] / "golden" / "io"
FILES = sorted(IO.glob("*/w*"))


@pytest.mark.parametrize("case", sorted(path for path in IO.iterdir() if path.is_dir()), ids=lambda path: path.name)
def test_golden_files(case: Path) -> None:
    expected = np.load(case / "expected.npz")
    compared = set()
    for path in sorted(case.glob("w*")):
        for layer in read_hdf5_weights(path) if is_hdf5(path) else read_caffemodel(path):
            for i, blob in enumerate(arrays(layer)):
                key = f"param:{layer.name}:{i}"
                if key in expected:
                    assert np.array_equal(blob.astype(np.float32).ravel(), expected[key].ravel())
                    compared.add(key)
    # The case's net held 0.125 everywhere before it loaded the files.
    assert compared == {key for key in expected if key.startswith("param:") and (expected[key] != 0.125).any()}


def test_all_golden_files_are_here() -> None:
    assert len(FILES) == 11


BINARY = [path for path in FILES if not is_hdf5(path)]


@pytest.mark.parametrize("path", BINARY, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_types_and_values_are_those_of_the_upgraded_message(path: Path) -> None:
    net = read_net(path)
    layers = read_caffemodel(path)
    assert [(layer.name, layer.type) for layer in layers] == [(layer.name, layer.type) for layer in net.layer]
    for ours, theirs in zip(layers, net.layer, strict=True):
        assert [blob.size for blob in arrays(ours)] == [max(len(b.data), len(b.double_data)) for b in theirs.blobs]
        assert ours.legacy == [b.HasField("num") for b in theirs.blobs]
        assert [d is not None for d in ours.diffs] == [len(b.diff) > 0 for b in theirs.blobs]
    for ours, weights in zip(layers, message_weights(net), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(arrays(ours), arrays(weights), strict=True))


@pytest.mark.parametrize("name", ["v2_shape", "v2_double", "v2_unknown_layer", "partial_then_rest"])
def test_exact_bytes(name: str, tmp_path: Path) -> None:
    path = IO / name / "w.caffemodel"
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    layers = read_caffemodel(path)
    write_caffemodel(
        tmp_path / "out",
        net,
        {layer.name: layer.blobs for layer in layers},
        {layer.name: layer.diffs for layer in layers},
    )
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def small_net() -> caffe_pb2.NetParameter:
    net = caffe_pb2.NetParameter(name="n", force_backward=True)
    net.layer.add(name="in", type="Input", top=["data"])
    net.layer.add(name="conv", type="Convolution", bottom=["data"], top=["conv"], phase=caffe_pb2.TEST)
    net.layer[1].convolution_param.num_output = 2
    net.layer[1].param.add(lr_mult=2)
    return net


def small_blobs() -> dict[str, list[np.ndarray]]:
    return {"conv": [np.arange(4, dtype=np.float32).reshape(2, 2), np.ones(2)]}


def test_written_fields_stand_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_caffemodel(path, small_net(), small_blobs(), {"conv": [-np.ones((2, 2), np.float32)]})
    message = caffe_pb2.NetParameter.FromString(path.read_bytes())
    assert message.SerializeToString(deterministic=True) == path.read_bytes()
    conv = message.layer[1]
    assert list(conv.blobs[0].data) == [0, 1, 2, 3]
    assert list(conv.blobs[0].diff) == [-1] * 4
    assert list(conv.blobs[1].double_data) == [1, 1]
    del conv.blobs[:]
    assert message == small_net()


def test_blobs_in_the_message_are_replaced(tmp_path: Path) -> None:
    net = small_net()
    net.layer[1].blobs.add(data=[1, 2, 3])
    write_caffemodel(tmp_path / "out", net, {})
    assert caffe_pb2.NetParameter.FromString((tmp_path / "out").read_bytes()) == small_net()


def test_unknown_fields_are_kept_once(tmp_path: Path) -> None:
    fork_field = b"\xc2\x3e\x03abc"  # field 1000
    net = caffe_pb2.NetParameter.FromString(small_net().SerializeToString() + fork_field)
    write_caffemodel(tmp_path / "out", net, {})
    assert (tmp_path / "out").read_bytes().count(fork_field) == 1


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ({"pool": []}, r'out: blobs are given for layer "pool", which is not in the net'),
        ({"conv": [None]}, r'out: layer "conv": blob 0: is None; only HDF5 files leave out shared parameters'),
        ({"conv": [np.ones(1, int)]}, r'out: layer "conv": blob 0: dtype is int64; expected float32 or float64'),
    ],
)
def test_what_cannot_be_written(blobs: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(ProtoError, match=message):
        write_caffemodel(tmp_path / "out", small_net(), blobs)
    assert (tmp_path / "out").read_text() == "old"


def repeated_names() -> caffe_pb2.NetParameter:
    net = caffe_pb2.NetParameter()
    for name in ("a", "a", ""):
        net.layer.add(name=name, type="InnerProduct")
    return net


def test_blobs_go_to_layers_in_order_where_names_repeat(tmp_path: Path) -> None:
    ones = np.ones(1, np.float32)
    write_caffemodel(tmp_path / "out", repeated_names(), [[ones], [2 * ones], [3 * ones]], [[], [ones], []])
    layers = read_caffemodel(tmp_path / "out")
    assert [(w.name, [b.tolist() for b in w.blobs if b is not None]) for w in layers] == [
        ("a", [[1]]),
        ("a", [[2]]),
        ("", [[3]]),
    ]
    assert [[d is not None for d in w.diffs] for w in layers] == [[False], [True], [False]]


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ([[], []], "out: blobs are given for 2 layers; the net has 3"),
        (
            {"a": [np.ones(1)]},
            'blobs are given for layer "a", and the net has 2 layers of that name; give a list',
        ),
    ],
)
def test_blobs_that_do_not_say_whose_they_are(blobs: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ProtoError, match=message):
        write_caffemodel(tmp_path / "out", repeated_names(), blobs)
    assert list(tmp_path.iterdir()) == []


def test_files_beyond_2_gb_are_refused(tmp_path: Path) -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**29,), (0,))  # 2 GiB that take no memory
    with pytest.raises(ProtoError, match=r"exceed the 2 GB of a protobuf file; use \.caffemodel\.h5"):
        write_caffemodel(tmp_path / "out", small_net(), {"conv": [huge]})
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_small(tmp_path: Path) -> None:
    # 16 MB of weights pass through without a copy of them.
    weights = np.ones((4, 1 << 20), np.float32)
    tracemalloc.start()
    write_caffemodel(tmp_path / "out", small_net(), {"conv": [weights]})
    layers = read_caffemodel(tmp_path / "out")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrays(layers[1])[0].sum() == weights.size
    assert peak_bytes < 1 << 20


# -- files that are no caffemodels -------------------------------------------------------------


def read_bytes_as_caffemodel(data: bytes, folder: Path) -> list[LayerWeights]:
    path = folder / "bad.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


def small_file(form: str) -> bytes:
    """Two layers of one generation, one of them with blobs."""
    net = caffe_pb2.NetParameter(name="n")
    layer: caffe_pb2.LayerParameter | caffe_pb2.V1LayerParameter | caffe_pb2.V0LayerParameter
    for name in ("conv", "ip"):
        if form == "v2":
            layer = net.layer.add(name=name, type="Convolution")
        elif form == "v1":
            layer = net.layers.add(name=name, type=caffe_pb2.V1LayerParameter.CONVOLUTION)
        else:
            layer = net.layers.add().layer
            layer.name, layer.type = name, "conv"
        sizes = {"num": 1, "channels": 1, "height": 2, "width": 2} if form == "v0" else {"shape": {"dim": [2, 2]}}
        layer.blobs.add(data=[1, 2, 3, 4], diff=[1, 2, 3, 4], **sizes)
        layer.blobs.add(double_data=[5]).shape.dim.append(1)
    return net.SerializeToString()


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_cut_short_at_every_byte(form: str, tmp_path: Path) -> None:
    data = small_file(form)
    net_name_bytes = 3
    for length in range(len(data)):
        try:
            layers = read_bytes_as_caffemodel(data[:length], tmp_path)
        except ProtoError as error:
            text = str(error)
            assert text.startswith(f"{tmp_path}/bad.caffemodel: ")
        else:  # cut exactly between the two layers: a smaller whole file
            assert length == (len(data) - net_name_bytes + len("conv") - len("ip")) // 2 + net_name_bytes
            assert [layer.name for layer in layers] == ["conv"]
    assert [layer.name for layer in read_bytes_as_caffemodel(data, tmp_path)] == ["conv", "ip"]


def test_errors_name_layer_blob_and_byte(tmp_path: Path) -> None:
    write_caffemodel(tmp_path / "ok", small_net(), small_blobs())
    data = (tmp_path / "ok").read_bytes()
    broken = data.replace(b"\x3a\x04\x0a\x02\x02\x02", b"\x3a\x04\x0a\x02\x02\x03")  # shape 2 x 2 -> 2 x 3
    with pytest.raises(ProtoError, match=r'layer "conv": blob 0: byte \d+: has 4 values; its shape 2 x 3 takes 6'):
        read_bytes_as_caffemodel(broken, tmp_path)


def layer_field(form: str, content: bytes) -> bytes:
    return {"v2": b"\xa2\x06", "v1": b"\x12"}[form] + bytes([len(content)]) + content


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "bad.caffemodel: the file is empty; expected a caffemodel"),
        (b'layer { name: "x" }', "bad.caffemodel: is a text file; expected a caffemodel (binary)"),
        (b"<html>Not Found</html>", "bad.caffemodel: is a text file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "bad.caffemodel: is an HDF5 file; read it with read_hdf5_weights"),
        (b"\x10\x01", "bad.caffemodel: holds no layers; expected a caffemodel"),
        (b"\x08\x01", "bad.caffemodel: is a solver state; expected a caffemodel, such as the one that lies beside it"),
        (
            layer_field("v2", b"\x0a\x01a") + layer_field("v1", b"\x22\x01a"),
            "bad.caffemodel: byte 6: layers of different",
        ),
        (
            layer_field("v1", b"\x0a\x03\x0a\x01a") + layer_field("v1", b"\x22\x01a"),
            "bad.caffemodel: byte 7: layers of",
        ),
        (layer_field("v1", b"\x0a\x06\x12\x04frob"), "bad.caffemodel: layer 0: byte 4: unknown V0 layer type 'frob'"),
        (layer_field("v2", b"\x3a\x00"), 'bad.caffemodel: layer "": blob 0: byte 5: has 0 values'),
        (layer_field("v2", b"\x0a\x09a"), "bad.caffemodel: layer 0: byte 3: field 1 needs 9 bytes; 1 are left"),
    ],
)
def test_malformed_files(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ProtoError) as caught:
        read_bytes_as_caffemodel(data, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_odd_but_valid_files(tmp_path: Path) -> None:
    v1_unknown_type = layer_field("v1", b"\x22\x01a\x28\xe8\x07")
    assert read_bytes_as_caffemodel(v1_unknown_type, tmp_path)[0].type == ""
    padding = layer_field("v1", b"\x0a\x09\x12\x07padding")
    assert read_bytes_as_caffemodel(padding, tmp_path) == []  # folded into the next layer, as in read_net
    not_utf8 = layer_field("v2", b"\x0a\x02\xff\x01")
    assert read_bytes_as_caffemodel(not_utf8, tmp_path)[0].name == "\\xff\x01"
    with_group = b"\x0b\x0c" + layer_field("v2", b"\x0a\x01a")
    assert read_bytes_as_caffemodel(with_group, tmp_path)[0].name == "a"
    assert message_weights(caffe_pb2.NetParameter()) == []


def test_number_of_layers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caffemodel, "MAX_LAYERS_AND_BLOBS", 10)
    many_layers = layer_field("v2", b"\x0a\x01a") * 11
    with pytest.raises(ProtoError, match="more than 10 layers and blobs"):
        read_bytes_as_caffemodel(many_layers, tmp_path)
    many_blobs = layer_field("v2", b"\x3a\x00" * 11)
    with pytest.raises(ProtoError, match="more than 10 blobs"):
        read_bytes_as_caffemodel(many_blobs, tmp_path)


GOOD = (IO / "v2_with_diff" / "w.caffemodel").read_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_never_crashes(data, tmp_path_factory.getbasetemp())


@settings(max_examples=200, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=5),
    dropped=st.tuples(st.integers(0, len(GOOD)), st.integers(0, 40)),
)
def test_random_damage(
    edits: list[tuple[int, int]], dropped: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(GOOD)
    for position, value in edits:
        data[position] = value
    del data[dropped[0] : sum(dropped)]
    check_never_crashes(bytes(data), tmp_path_factory.getbasetemp())


def check_never_crashes(data: bytes, folder: Path) -> None:
    try:
        layers = read_bytes_as_caffemodel(data, folder)
    except ProtoError as error:
        assert "\n" not in str(error)  # noqa: PT017 - damage need not be an error
        return
    # What we accept, protobuf has to read alike (it looks at more fields, so it may refuse).
    try:
        net = caffe_pb2.NetParameter.FromString(data)
    except Exception:
        return
    for ours, theirs in zip(layers, net.layer, strict=False):
        for blob, message in zip(arrays(ours), theirs.blobs, strict=True):
            values = message.double_data or message.data
            assert np.array_equal(blob.ravel(), np.array(values, blob.dtype), equal_nan=True)
