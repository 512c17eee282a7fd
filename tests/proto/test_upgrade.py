"""Old forms upgraded: all steps together; ``tests/tools/test_upgrade_*.py`` compare with Caffe's own results."""

from pathlib import Path

from caffe_compat.proto import caffe_pb2, parse_message, upgrade_net, upgrade_solver
from caffe_compat.proto.upgrade import v0, v1

CASES = sorted((Path(__file__).parents[1] / "golden" / "upgrade").glob("*/case.json"))


def test_all_golden_cases_are_here() -> None:
    assert len(CASES) == 21


def test_upgrade_says_whether_it_changed_anything() -> None:
    net = parse_message('layers { type: RELU name: "r" }', caffe_pb2.NetParameter())
    assert upgrade_net(net)
    assert not upgrade_net(net)
    solver = caffe_pb2.SolverParameter(solver_type=caffe_pb2.SolverParameter.ADADELTA)
    assert upgrade_solver(solver)
    assert solver.type == "AdaDelta"
    assert not solver.HasField("solver_type")
    assert not upgrade_solver(solver)


def test_type_tables_are_complete() -> None:
    known = caffe_pb2.V1LayerParameter.LayerType.keys()
    assert set(v1.TYPES) == set(known)
    assert set(v0.TYPES.values()) <= set(known)
    fields = {f.name for f in caffe_pb2.V0LayerParameter.DESCRIPTOR.fields}
    tables = (v0._SAME, v0._ANY_TYPE, v0._BY_TYPE)  # noqa: SLF001 - the parts of the upgrade's table
    handled = {*(name for table in tables for name in table), "type"}
    assert fields - handled == {"new_num", "new_channels"}  # never implemented in Caffe
    assert handled <= fields
