"""Old forms upgraded: Caffe's own results, and its refusals."""

import argparse
import json
from pathlib import Path

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_message, parse_net, read_message, read_net, upgrade_net, upgrade_solver
from caffe_compat.proto.upgrade import v0, v1
from caffe_compat.tools import upgrade_net_proto_binary, upgrade_net_proto_text, upgrade_solver_proto_text

CASES = sorted((Path(__file__).parents[1] / "golden" / "upgrade").glob("*/case.json"))
TOOLS = {
    tool.__name__.rpartition(".")[2]: tool
    for tool in (upgrade_net_proto_binary, upgrade_net_proto_text, upgrade_solver_proto_text)
}


def run_tool(name, source, target):
    parser = argparse.ArgumentParser()
    TOOLS[name].add_arguments(parser)
    return TOOLS[name].run(parser.parse_args([str(source), str(target)]))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_upgrade_tools_equal_caffes(path, tmp_path):
    case = json.loads(path.read_text())
    kind = caffe_pb2.SolverParameter if "solver" in case["tool"] else caffe_pb2.NetParameter
    form = "binary" if "binary" in case["tool"] else "text"
    assert run_tool(case["tool"], path.parent / case["input"], tmp_path / "out") == 0
    expected = read_message(path.parent / case["expected"], kind(), form)
    assert str(read_message(tmp_path / "out", kind(), form)) == str(expected)


def test_all_golden_cases_are_here():
    assert len(CASES) == 21


def test_type_tables_are_complete():
    known = caffe_pb2.V1LayerParameter.LayerType.keys()
    assert set(v1.TYPES) == set(known)
    assert set(v0.TYPES.values()) <= set(known)
    fields = {f.name for f in caffe_pb2.V0LayerParameter.DESCRIPTOR.fields}
    handled = {*v0._SAME, *v0._ANY_TYPE, *v0._BY_TYPE, "type"}
    assert fields - handled == {"new_num", "new_channels"}  # never implemented in Caffe
    assert handled <= fields


def test_every_v1_field_has_a_counterpart():
    ours = {f.name for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields}
    v1_fields = {f.name for f in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields}
    assert v1_fields - ours == {"layer", "blob_share_mode", "blobs_lr", "weight_decay"}


def test_upgrade_says_whether_it_changed_anything():
    net = parse_message('layers { type: RELU name: "r" }', caffe_pb2.NetParameter())
    assert upgrade_net(net)
    assert not upgrade_net(net)
    solver = caffe_pb2.SolverParameter(solver_type=caffe_pb2.SolverParameter.ADADELTA)
    assert upgrade_solver(solver)
    assert solver.type == "AdaDelta"
    assert not solver.HasField("solver_type")
    assert not upgrade_solver(solver)


V0_DATA = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'


def v0_layer(fields, bottom="data", top="x"):
    return f'layers {{ layer {{ {fields} }} bottom: "{bottom}" top: "{top}" }}\n'


def test_padding_is_folded_into_pooling():
    padding = v0_layer('type: "padding" name: "pad" pad: 3', top="p")
    net = parse_net(V0_DATA + padding + v0_layer('type: "pool" name: "pool" kernelsize: 2 pool: STOCHASTIC', "p"))
    assert [layer.name for layer in net.layer] == ["input", "pool"]
    pool = net.layer[1]
    assert list(pool.bottom) == ["data"]
    assert pool.pooling_param.pad == 3
    assert pool.pooling_param.pool == caffe_pb2.PoolingParameter.STOCHASTIC


def test_padding_in_place():
    layers = (
        v0_layer('type: "conv" name: "c1"')
        + v0_layer('type: "padding" pad: 3', "x")
        + v0_layer('type: "conv" name: "c2"', "x", "y")
    )
    net = parse_net(V0_DATA + layers)
    assert [list(layer.convolution_param.pad) for layer in net.layer[1:]] == [[], [3]]


def test_all_data_layers_get_both_messages_once_one_is_upgraded():
    # As Caffe leaves them: present, though empty.
    net = parse_net('layers { type: DATA name: "a" } layers { type: IMAGE_DATA image_data_param { scale: 2 } }')
    assert net.layer[0].HasField("data_param")
    assert net.layer[0].HasField("transform_param")
    assert net.layer[1].transform_param.scale == 2
    net = parse_net('layers { type: DATA name: "a" }')
    assert not net.layer[0].HasField("transform_param")


@pytest.mark.parametrize(("count", "multipliers"), [(2, [1]), (3, [0]), (4, [1])])
def test_only_batch_norm_with_three_params_is_frozen(count, multipliers):
    net = parse_net('layer { type: "BatchNorm" ' + "param { name: 'p' } " * count + "}")
    assert [spec.lr_mult for spec in net.layer[0].param] == multipliers * count
    assert [spec.decay_mult for spec in net.layer[0].param] == multipliers * count
    assert [spec.name for spec in net.layer[0].param] == ["p"] * count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (v0_layer('type: "frob" name: "f"'), ':2: layer "f": unknown V0 layer type "frob"; expected one of accuracy'),
        (v0_layer('type: "relu" name: "r"', "q"), ':2: layer "r": bottom "q" is the top of no earlier layer'),
        (v0_layer('type: "padding"', top="p") + v0_layer('type: "relu" name: "r"', "p"), ':3: layer "r": of type '
         '"relu" follows a padding layer; only conv and pool may'),
        (v0_layer('type: "padding"', top="p") +
         'layers { layer { type: "conv" name: "c" } bottom: "p" bottom: "data" }',
         ':3: layer "c": has 2 bottoms; behind a padding layer it takes one'),
        ('layers { layer { type: "padding" name: "p" } top: "p" }\n' + v0_layer('type: "conv"', "p"),
         ':2: layer "p": is a padding layer; expected one bottom and one top'),
        (v0_layer('type: "relu"') + 'layers { type: RELU name: "v1" }', ':3: layer "v1": is a V1 layer in a net with '
         "V0 layers; write all layers in one form"),
        (v0_layer('type: "relu"') + "layer { }", ": has both old 'layers' and new 'layer' blocks"),
        ("layers { type: RELU } layer { }", ": has both old 'layers' and new 'layer' blocks"),
        ('input: "more"', ": 2 input(s) need 8 input_dim entries; there are 4"),
        ("input: 'more' input_shape { }", ": 2 input(s) need 2 input_shape entries; there are 1"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*dropped")
def test_refusals(text, message):
    with pytest.raises(ProtoError) as caught:
        parse_net(V0_DATA + text, "net.prototxt")
    assert str(caught.value).startswith(f"net.prototxt{message}")


@pytest.mark.parametrize(
    ("text", "dropped", "exit_status"),
    [
        (
            v0_layer('type: "relu" name: "r" num_output: 3'),
            r'layer "r": field num_output does not fit V0 type "relu"',
            1,
        ),
        (v0_layer('type: "relu" name: "r" new_num: 3'), r'layer "r": new_num was never implemented', 0),
        (v0_layer('type: "relu" name: "r"') + "debug_info: true", "debug_info has no meaning in a V0 net", 0),
        (
            'layers { layer { type: "relu" name: "r" } bottom: "data" name: "outer" }',
            'layer "r": name beside the V0',
            0,
        ),
        ("input_dim: 4", "1 input_dim entries beyond those of the 1 input", 0),
        ("input_shape { }", "input_dim was dropped because input_shape is given too", 0),
    ],
)
def test_what_is_dropped_is_said(text, dropped, exit_status, tmp_path, capsys):
    with pytest.warns(UserWarning, match=dropped):
        parse_net(V0_DATA + text)
    (tmp_path / "in").write_text(V0_DATA + text)
    assert run_tool("upgrade_net_proto_text", tmp_path / "in", tmp_path / "out") == exit_status
    assert "dropped" in capsys.readouterr().err


def test_inputs_without_sizes_are_removed():
    net = parse_net('input: "data" layer { name: "r" }')
    assert [layer.name for layer in net.layer] == ["r"]
    assert not net.input


def test_v1_type_of_a_fork_is_refused():
    net = caffe_pb2.NetParameter()
    net.layers.add(name="s", type=caffe_pb2.V1LayerParameter.SPLIT)
    assert read_net(net).layer[0].type == "Split"
    net.ParseFromString(b"\x12\x03\x28\xe8\x07")  # layers { type: 1000 }: unknown to protobuf, so no type
    assert not read_net(net).layer[0].HasField("type")


def test_solver_with_both_types():
    solver = caffe_pb2.SolverParameter(solver_type=0, type="SGD")
    with pytest.raises(ProtoError, match=r"s\.prototxt: both solver_type \(old\) and type \(new\) are set"):
        upgrade_solver(solver, "s.prototxt")


def test_tools_say_when_nothing_is_to_do(tmp_path, capsys):
    (tmp_path / "in").write_text('type: "Adam"')
    assert run_tool("upgrade_solver_proto_text", tmp_path / "in", tmp_path / "out") == 0
    assert "in: is in the current format already" in capsys.readouterr().err
    assert read_message(tmp_path / "out", caffe_pb2.SolverParameter()).type == "Adam"
