"""The names of caffe_pb2, and that its messages pickle, with each implementation of protobuf."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, text_format

import caffe_compat.proto as proto
from caffe_compat.proto import caffe_pb2

FOLDER = Path(proto.__file__).parent


def test_names_are_those_of_a_generated_module() -> None:
    assert caffe_pb2.TEST == 1
    assert caffe_pb2.Phase.Name(0) == "TRAIN"
    assert caffe_pb2.PoolingParameter.AVE == 1
    assert caffe_pb2.PoolingParameter.PoolMethod.Value("STOCHASTIC") == 2
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4
    assert caffe_pb2.DESCRIPTOR.package == "caffe"
    assert "NetParameter" in dir(caffe_pb2)
    with pytest.raises(AttributeError, match="NoSuchThing"):
        caffe_pb2.NoSuchThing  # type: ignore[attr-defined]  # noqa: B018


def test_pool_is_private() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")


def test_messages_pickle_and_copy() -> None:
    net = text_format.Merge('name: "n" layer { clip_param { min: 1 } }', caffe_pb2.NetParameter())
    for message in (net, net.layer[0]):  # max is required and missing: still a message
        assert pickle.loads(pickle.dumps(message)) == message
        assert copy.deepcopy(message) == message
        assert type(pickle.loads(pickle.dumps(message))) is type(message)


@pytest.mark.parametrize("implementation", ["python", "upb"])
def test_both_protobuf_implementations(implementation: str, tmp_path: Path) -> None:
    (tmp_path / "extra.proto").write_text(
        "message Outer { message Inner { optional int32 x = 1; } optional Inner i = 1; }"
    )
    script = f"""
import pickle
from google.protobuf.internal import api_implementation
assert api_implementation.Type() == {implementation!r}, "implementation " + api_implementation.Type()
from caffe_compat.proto import caffe_pb2, extend_schema, parse_net
net = parse_net('layers {{ type: POOLING name: "p" pooling_param {{ pool: AVE }} }}')
assert net.layer[0].type == "Pooling" and net.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
assert pickle.loads(pickle.dumps(net)) == net
extend_schema({str(tmp_path / "extra.proto")!r})
assert caffe_pb2.Outer.Inner(x=3).x == 3
assert pickle.loads(pickle.dumps(caffe_pb2.Outer.Inner(x=3))).x == 3
"""
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation, "PYTHONPATH": str(FOLDER.parents[1])}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
