"""What is known of Caffe's forks."""

from caffe_compat.proto import fork_of_field, fork_of_layer_type
from caffe_compat.proto.forks import FORK_FIELDS, FORK_LAYER_TYPES
from caffe_compat.proto.schema import load_caffe_schema
from caffe_compat.proto.upgrade import v1


def test_forks_are_known_and_new() -> None:
    assert fork_of_field("multi_stage_meanfield_param") == "CRF-RNN"
    assert fork_of_field("convolution_param") is None
    assert fork_of_layer_type("DepthwiseConvolution") == "MobileNet's depthwise convolution"
    assert fork_of_layer_type("Convolution") is None


def test_fork_fields_are_not_caffes() -> None:
    for message in ("LayerParameter", "NetParameter", "SolverParameter", "TransformationParameter"):
        assert not FORK_FIELDS.keys() & load_caffe_schema().names[message].DESCRIPTOR.fields_by_name.keys()


def test_fork_types_are_not_caffes() -> None:
    old = load_caffe_schema().names["V1LayerParameter"].LayerType.keys()
    assert not FORK_LAYER_TYPES.keys() & {v1.TYPES[name] for name in old}


def test_every_name_has_its_fork() -> None:
    for names in (FORK_FIELDS, FORK_LAYER_TYPES):
        assert all(names.values())
        assert all(name.isidentifier() for name in names)
    assert fork_of_field("prior_box_param") == fork_of_layer_type("PriorBox") == "SSD"
