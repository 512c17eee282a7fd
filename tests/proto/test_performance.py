"""Fields that say only how a fork computes."""

import warnings
from pathlib import Path

import pytest

from caffe_compat.errors import NetError
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, parse_message, parse_net, read_net, read_solver
from caffe_compat.proto.performance import _FIELDS, ignore_performance_fields
from caffe_compat.proto.schema import load_caffe_schema, load_schema

NVCAFFE = """
default_forward_type: FLOAT16 default_backward_type: FLOAT16 default_conv_algos_override: "1,2,3"
global_grad_scale: 1000
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" forward_type: FLOAT16 convolution_param {
  num_output: 1 kernel_size: 1 conv_algos_override: "1,2,3" cudnn_convolution_algo_seeker: GET
  weight_filler { value: 3 } } }
layer { name: "d" type: "Convolution" bottom: "y" top: "z" forward_type: FLOAT backward_math: FLOAT convolution_param {
  num_output: 1 kernel_size: 1 } }
"""
INTEL = """
layers { name: "c" type: CONVOLUTION bottom: "x" top: "y" convolution_param { num_output: 1 engine: MKL2017 } }
layers { name: "r" type: RELU bottom: "y" top: "y" relu_param { engine: MKLDNN fuse: true negative_slope: 0.5 } }
layers { name: "p" type: POOLING bottom: "y" top: "p" pooling_param { kernel_size: 2 engine: CAFFE } }
"""


def test_nvcaffes_fields_are_said_once_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NVCAFFE)
    with pytest.warns(UserWarning, match="ignored") as said:
        read = read_net(path)
    assert [str(warning.message) for warning in said] == [
        f"{path}: ignored, as they say only how a fork of Caffe computes: "
        "convolution_param.cudnn_convolution_algo_seeker, convolution_param.conv_algos_override, forward_type, "
        "backward_math, default_forward_type, default_backward_type, global_grad_scale, default_conv_algos_override"
    ]
    plain = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 2 } } }
    layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {
      num_output: 1 kernel_size: 1 weight_filler { value: 3 } } }
    layer { name: "d" type: "Convolution" bottom: "y" top: "z" convolution_param { num_output: 1 kernel_size: 1 } }
    """
    assert read == parse_net(plain)
    assert Net(read).get_parameter("c.weight").item() == 3


def test_intels_8_bits_are_those_of_one_of_its_engines() -> None:
    text = """layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 1 }
      quantization_param { bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 scale_in: 0.8 scale_params: 189 } }"""
    with pytest.warns(UserWarning, match="ignored, as they say only how a fork of Caffe computes: quantization_param$"):
        read = parse_net(text)
    assert not read.layer[0].HasField("quantization_param")


def test_intels_engines_are_taken_out_and_caffes_stay() -> None:
    with pytest.warns(
        UserWarning, match="convolution_param.engine: MKL2017, relu_param.engine: MKLDNN, relu_param.fuse$"
    ):
        convolution, relu, pooling = parse_net(INTEL).layer
    assert not convolution.convolution_param.HasField("engine")
    assert relu.relu_param == caffe_pb2.ReLUParameter(negative_slope=0.5)
    assert pooling.pooling_param.engine == caffe_pb2.PoolingParameter.CAFFE


def test_a_message_given_stays_as_it_was() -> None:
    message = parse_message(NVCAFFE, caffe_pb2.NetParameter())
    with pytest.warns(UserWarning, match="<message>: ignored"):
        read_net(message)
    assert message.default_forward_type == caffe_pb2.FLOAT16


def test_a_solver() -> None:
    message = caffe_pb2.SolverParameter(solver_data_type=caffe_pb2.FLOAT16, base_lr=1)
    message.net_param.default_forward_type = caffe_pb2.FLOAT16  # said when that net is read
    with pytest.warns(
        UserWarning, match="<message>: ignored, as they say only how a fork of Caffe computes: solver_data_"
    ):
        read = read_solver(message)
    assert not read.HasField("solver_data_type")
    assert read.net_param.HasField("default_forward_type")


def test_a_net_without_them_is_left_alone() -> None:
    net = parse_net('layer { name: "r" type: "ReLU" relu_param { engine: CAFFE } }')
    before = net.SerializeToString()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignore_performance_fields(net, "net")
    assert net.SerializeToString() == before


def test_what_changes_results_is_not_ignored() -> None:
    with pytest.raises(NetError, match=r"convolution_param.relu is no field of Caffe 1.0"):
        Net(parse_net('input: "x" input_dim: [1, 1, 2, 2] layer { name: "c" type: "Convolution" bottom: "x" top: "y" '
                      "convolution_param { num_output: 1 kernel_size: 1 relu: true } }"))  # fmt: skip


def test_each_of_them_is_a_forks() -> None:
    for message, names in _FIELDS.items():
        assert names <= set(load_schema().names[message].DESCRIPTOR.fields_by_name)
        if message in load_caffe_schema().names:
            assert not names & set(load_caffe_schema().names[message].DESCRIPTOR.fields_by_name)
