"""What is known of Caffe's forks."""

from caffe_compat.proto import caffe_pb2, fork_of_field, fork_of_layer_type


def test_forks_are_known_and_new():
    assert fork_of_field("multi_stage_meanfield_param") == "CRF-RNN"
    assert fork_of_field("convolution_param") is None
    assert fork_of_layer_type("DepthwiseConvolution") == "MobileNet's depthwise convolution"
    assert fork_of_layer_type("Convolution") is None


def test_fork_fields_are_not_caffes():
    from caffe_compat.proto.forks import FORK_FIELDS

    for message in ("LayerParameter", "NetParameter", "SolverParameter", "TransformationParameter"):
        assert not FORK_FIELDS.keys() & getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name.keys()
