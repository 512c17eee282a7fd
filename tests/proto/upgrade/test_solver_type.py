"""The enum solver_type to the string type."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, upgrade_solver


def test_solver_with_both_types():
    solver = caffe_pb2.SolverParameter(solver_type=0, type="SGD")
    with pytest.raises(ProtoError, match=r"s\.prototxt: both solver_type \(old\) and type \(new\) are set"):
        upgrade_solver(solver, "s.prototxt")
