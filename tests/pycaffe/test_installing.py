"""``import caffe`` and all the ways in which scripts say it."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import sys
    import caffe_compat.pycaffe as ours
    ours.install()
    ours.install()
    import caffe
    assert caffe is ours
    import caffe.proto.caffe_pb2
    from caffe.proto import caffe_pb2
    from caffe.proto.caffe_pb2 import *
    assert NetParameter is caffe_pb2.NetParameter is caffe.proto.caffe_pb2.NetParameter
    assert TRAIN == caffe.TRAIN
    from caffe import layers as L, params as P
    assert P.Pooling.AVE == 1
    from caffe._caffe import Net, Blob, BlobVec, SolverParameter
    assert Net is caffe.Net
    import caffe.io, caffe.draw
    from caffe.coord_map import crop
    from caffe.pycaffe import SGDSolver
    from caffe.net_spec import NetSpec
    assert caffe.io is ours.io
    assert caffe.io.__spec__.name == "caffe_compat.pycaffe.io"
    assert len([f for f in sys.meta_path if type(f).__name__ == "_Finder"]) == 1
    try:
        import caffe.nothing
    except ModuleNotFoundError as error:
        assert error.name == "caffe.nothing"
    else:
        raise AssertionError
"""


def test_names_under_caffe() -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT)], check=True)


@pytest.mark.parametrize("name", ["matcaffe_demo", "caffe_compat_nothing"])
def test_other_names_are_left_alone(name: str) -> None:
    code = f"import caffe_compat.pycaffe as c; c.install(); import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"No module named '{name}'" in done.stderr
