"""The enum solver_type to the string type."""

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, upgrade_solver
from caffe_compat.proto.upgrade import solver_type


@pytest.mark.parametrize(
    ("number", "name"), [(0, "SGD"), (1, "Nesterov"), (2, "AdaGrad"), (3, "RMSProp"), (4, "AdaDelta"), (5, "Adam")]
)
def test_every_type(number: int, name: str) -> None:
    solver = caffe_pb2.SolverParameter(solver_type=caffe_pb2.SolverParameter.SolverType.Name(number), base_lr=0.5)
    assert upgrade_solver(solver)
    assert solver == caffe_pb2.SolverParameter(type=name, base_lr=0.5)


def test_the_table_is_complete() -> None:
    assert set(solver_type.TYPES) == set(caffe_pb2.SolverParameter.SolverType.keys())


def test_current_solvers_stay() -> None:
    for solver in (caffe_pb2.SolverParameter(), caffe_pb2.SolverParameter(type="Adam")):
        before = str(solver)
        assert not solver_type.needs_upgrade(solver)
        assert not upgrade_solver(solver)
        assert str(solver) == before


def test_solver_with_both_types() -> None:
    solver = caffe_pb2.SolverParameter(solver_type="SGD", type="SGD")
    with pytest.raises(ProtoError, match=r"s\.prototxt: both solver_type \(old\) and type \(new\) are set"):
        upgrade_solver(solver, "s.prototxt")
