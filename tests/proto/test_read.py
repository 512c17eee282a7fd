"""Text and binary files to messages; each error once, with its line."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_compat.errors import ProtoError
from caffe_compat.proto import (
    caffe_pb2,
    is_hdf5,
    parse_message,
    parse_net,
    read_message,
    read_net,
    read_net_with_source,
    read_solver,
    write_binary_message,
    write_text_message,
)


def test_read_net_text_binary_and_message(tmp_path: Path) -> None:
    text = 'name: "n"\nlayers { name: "r" type: RELU }\n'
    (tmp_path / "net.prototxt").write_text(text)
    net = read_net(tmp_path / "net.prototxt")
    assert [(layer.name, layer.type) for layer in net.layer] == [("r", "ReLU")]
    assert parse_net(text) == net
    write_binary_message(tmp_path / "net.bin", net)
    assert read_net(str(tmp_path / "net.bin")) == net
    old = parse_message(text, caffe_pb2.NetParameter())
    assert read_net(old) == net
    assert len(old.layers) == 1  # the message given stays as it was


def test_source_of_a_net(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('name: "n"\nlayer { name: "r" }')
    assert read_net_with_source(path)[1].layer("r") == f'{path}:2: layer "r"'
    assert read_net_with_source(caffe_pb2.NetParameter())[1].layer("r") == '<message>: layer "r"'


@pytest.mark.parametrize(
    "text",
    [
        'layer < name: "x" >;',  # Caffe's text parser takes all of these
        'name: "a"; force_backward: 1, debug_info: t',
        "name: 'a' \"b\"",
        "input_dim: [1, 0x10, 010]",
        "layer { loss_weight: 1.f loss_weight: .5 loss_weight: 5. loss_weight: 1e-5f }",
        'layer: { pooling_param: { pool: 1 } } # "',
        'name: "a"\r\nlayer { }\f\r\n',
    ],
)
def test_odd_but_valid_text(text: str) -> None:
    assert parse_net(text).ByteSize() > 0


def test_comments_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'# \xe9t\xe9 "\nname: "a#b"  # \xc4\nlayer { name: "x\xc3\xa9" }')
    net = read_net(path)
    assert (net.name, net.layer[0].name) == ("a#b", "x\u00e9")
    path.write_bytes(b'\xef\xbb\xbfname: "bom"')
    assert read_net(path).name == "bom"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "a"\nname: "b"', ':2: field "name" of message "NetParameter" is given twice; it takes one value'),
        ("\nlayer { densecrf_param { } }", ':2: message "LayerParameter" has no field "densecrf_param"; it looks like '
         "a field of DeepLab: pass its definition with --schema extra.proto"),
        ("layer { poolin_param { } }", ':1: message "LayerParameter" has no field "poolin_param"; did you mean '
         "pooling_param"),
        ("layer {\n kernel_size: 3 }", ':2: message "LayerParameter" has no field "kernel_size"; it is a field of '
         "ConvolutionParameter, PoolingParameter: is it in the wrong block or file?"),
        ("zzz: 1", ':1: message "NetParameter" has no field "zzz"; expected one of name, layers, input'),
        ("base_lr: 1", ':1: message "NetParameter" has no field "base_lr"; it is a field of SolverParameter'),
        ("layer { pooling_param { pool: FOO } }", ':1: enum "PoolingParameter.PoolMethod" has no value FOO; expected '
         "one of MAX, AVE, STOCHASTIC"),
        ("layer { phase: FOO }", ':1: enum "Phase" has no value FOO; expected one of TRAIN, TEST'),
        ("layer { pooling_param { pool: 9 } }", ':1: enum type "caffe.PoolingParameter.PoolMethod" has no value with'),
        ('layers { type: "Convolution" }', ':1: enum "V1LayerParameter.LayerType" has no value Convolution; expected '
         'CONVOLUTION or DECONVOLUTION, or the form layer { type: "..." }'),
        ("layer {\n type: CONVOLUTION }", ":2: expected string but found: 'CONVOLUTION'; a layer { } names its type in "
         'quotes (type: "Convolution"), the old layers { } by enum'),
        ('layer {\n name: "x"\n\n', ':2: expected "}"; the file ends inside a block: a closing brace is missing'),
        ('layer { name: "abc\n }', ":1: string missing ending quote: '\"abc'"),
        ("layer { pooling_param { pad: -1 } }", ":1: value out of range: -1"),
        ("layer { pooling_param { pad: 1.5 } }", ":1: couldn't parse integer: 1.5"),
        ("layer { loss_weight: x }", ":1: couldn't parse float: x"),
        ("force_backward: maybe", ':1: expected "true" or "false"'),
        ("layer: 3", ':1: expected "{"'),
        ("}", ":1: expected identifier or number, got }"),
        ("[foo.bar] { }", ':1: message type "caffe.NetParameter" does not have extensions'),
        ("layer { clip_param { min: 1 } }", ": required field layer[0].clip_param.max is missing"),
        ('name: "a"\n\x00', ":2: expected identifier or number, got \\x00"),
    ],
)  # fmt: skip
def test_text_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(ProtoError) as caught:
        read_net(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": the file is empty; expected a NetParameter"),
        (b'name: "x"\nname: "\xe9"', ":2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ('name: "x"'.encode("utf-16"), ": is UTF-16 text; save it as UTF-8"),
        (b"\x89HDF\r\n\x1a\n1234", ": is an HDF5 file; expected a NetParameter as text or protobuf"),
        (b"\n\x02\xff\x01", ": name of a NetParameter is not UTF-8: b'\\xff\\x01'"),
        (b"\xa2\x06\x03\x1a\x01\xff", ": bottom of a LayerParameter is not UTF-8: [b'\\xff']"),
        (b"\n\x05ab", ": is not a NetParameter: the bytes are no protobuf message, or cut short"),
    ],
)
def test_file_errors(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "net"
    path.write_bytes(data)
    with pytest.raises(ProtoError) as caught:
        read_net(path)
    assert str(caught.value) == f"{path}{message}"


def test_control_characters_stay_out_of_messages() -> None:
    with pytest.raises(ProtoError, match=r'layer "a\\nb": unknown V0 layer type "c\\nd"'):
        parse_net(r'input: "x" layers { layer { name: "a\nb" type: "c\nd" } bottom: "x" }')


WORDS = ["layer", "layers", "name:", '"a"', "type:", '"conv"', '"padding"', "CONVOLUTION", "pooling_param", "pool: MAX"]
WORDS += [
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
    "0x",
    "1e",
    "9" * 30,
    "nan",
    "'",
    '"',
    "#",
    "\n",
    "\\",
    "\0",
]
WORDS += [
    "input:",
    "input_dim: 1",
    "bottom:",
    "blobs { }",
    "clip_param { min: 1 }",
    "[a.b/c]",
    "\ud800",
    "\u00e9",
    '"\\xff"',
]


@settings(max_examples=300, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
@pytest.mark.filterwarnings("ignore:.*dropped")
def test_random_text(words: list[str]) -> None:
    try:
        parse_net(" ".join(words))
    except ProtoError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some texts are valid


OLD_NET = (Path(__file__).parents[1] / "golden" / "upgrade" / "v0_everything_binary" / "input.bin").read_bytes()


@settings(max_examples=100, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, len(OLD_NET) - 1), st.integers(0, 255)), min_size=1, max_size=5))
@pytest.mark.filterwarnings("ignore:.*(dropped|left out)")
def test_random_damage_to_a_binary_net(edits: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = bytearray(OLD_NET)
    for position, value in edits:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "bad.bin"
    path.write_bytes(data)
    try:
        read_net(path)
    except ProtoError as error:
        assert "\n" not in str(error)  # noqa: PT017 - damage need not be an error


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ProtoError, match=r"none\.prototxt: cannot be read: No such file or directory"):
        read_net(tmp_path / "none.prototxt")
    with pytest.raises(ProtoError, match="cannot be read: Is a directory"):
        read_solver(tmp_path)
    with pytest.raises(ProtoError, match="cannot be written: No such file or directory"):
        write_text_message(tmp_path / "none" / "x", caffe_pb2.NetParameter())


def test_wrong_kind_of_object() -> None:
    with pytest.raises(ProtoError, match=r"expected a path or a caffe\.NetParameter message, got caffe\.SolverParam"):
        read_net(caffe_pb2.SolverParameter())  # type: ignore[arg-type]
    with pytest.raises(ProtoError, match="got int"):
        read_net(3)  # type: ignore[arg-type]


def test_form_can_be_forced(tmp_path: Path) -> None:
    path = tmp_path / "net"
    path.write_text('name: "x"')
    with pytest.raises(ProtoError, match="no protobuf message"):
        read_message(path, caffe_pb2.NetParameter(), "binary")
    assert read_message(path, caffe_pb2.NetParameter(), "text").name == "x"
    # All printable, so it looks like text; the caller knows better.
    message = caffe_pb2.NetParameter(name="x" * 40)
    write_binary_message(path, message)
    assert read_message(path, caffe_pb2.NetParameter(), "binary") == message


def test_is_hdf5(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x89HDF\r\n\x1a\n....")
    (tmp_path / "b").write_bytes(b"\x89HDF")
    assert is_hdf5(tmp_path / "a")
    assert not is_hdf5(tmp_path / "b")
    with pytest.raises(ProtoError):
        is_hdf5(tmp_path / "c")


@pytest.mark.parametrize("text", ["min_lr: 1", "rampup_lr: 0.1"])
def test_fields_of_a_fork_that_no_solver_reads(text: str, tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 1\n" + text)
    with pytest.raises(ProtoError) as caught:
        read_solver(path)
    name = text.partition(":")[0]
    assert str(caught.value) == (
        f"{path}: {name} is no field of Caffe 1.0 but of a fork, and nothing here reads it in a SolverParameter; "
        "remove it"
    )
    with pytest.raises(ProtoError, match=r"<message>: min_lr is no field of Caffe 1\.0"):
        read_solver(caffe_pb2.SolverParameter(min_lr=1))
    with pytest.raises(ProtoError, match=r"<text>: bn_stats_batch_size is no field of Caffe 1\.0"):
        parse_net("bn_stats_batch_size: 3")


def test_solver_snapshot_prefix(tmp_path: Path) -> None:
    path = tmp_path / "my.solver.prototxt"
    path.write_text("base_lr: 1")
    assert read_solver(path).snapshot_prefix == str(tmp_path / "my.solver")
    path.write_text(f'snapshot_prefix: "{tmp_path}"')
    assert read_solver(path).snapshot_prefix == os.path.join(tmp_path, "my.solver")
    path.write_text('snapshot_prefix: "x"')
    assert read_solver(path).snapshot_prefix == "x"


def test_a_solver_message_stays_as_it_was() -> None:
    message = caffe_pb2.SolverParameter(solver_type=caffe_pb2.SolverParameter.ADAM)
    read = read_solver(message)
    assert (read.type, read.snapshot_prefix) == ("Adam", "")
    assert not message.HasField("type")
    with pytest.raises(
        ProtoError, match=r"expected a path or a caffe\.SolverParameter message, got caffe\.NetParameter"
    ):
        read_solver(caffe_pb2.NetParameter())  # type: ignore[arg-type]


def test_a_forks_field_under_the_number_of_clip_param(tmp_path: Path) -> None:
    path = tmp_path / "fork.caffemodel"
    foreign = caffe_pb2.LayerParameter(name="loss", type="Theirs")  # of a fork that is not known here
    foreign.clip_param.min = 3
    net = caffe_pb2.NetParameter(layer=[foreign])
    path.write_bytes(net.SerializePartialToString())
    with pytest.warns(UserWarning, match=r'layer "loss" \(Theirs\): field 148 is no clip_param but a fork'):
        (layer,) = read_net(path).layer
    assert not layer.HasField("clip_param")
    net.layer[0].type = "Clip"
    path.write_bytes(net.SerializePartialToString())
    with pytest.raises(ProtoError, match=r"required field layer\[0\].clip_param.max is missing"):
        read_net(path)
