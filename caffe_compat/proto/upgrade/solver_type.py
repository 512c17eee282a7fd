"""Solvers that name their update rule by the enum ``solver_type`` instead of the string ``type``."""

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2

#: Enum value -> current type.
TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def needs_upgrade(solver: caffe_pb2.SolverParameter) -> bool:
    """True when the enum is set."""
    return solver.HasField("solver_type")


def upgrade(solver: caffe_pb2.SolverParameter, source: str) -> None:
    """Replace the enum by the string, in place; ProtoError when both are set."""
    if solver.HasField("type"):
        raise ProtoError(f"{source}: both solver_type (old) and type (new) are set; keep only type")
    name = caffe_pb2.SolverParameter.SolverType.Name(solver.solver_type)
    if name not in TYPES:
        raise ProtoError(f'{source}: solver_type {name} is not one of {", ".join(TYPES)}; use type: "..."')
    solver.type = TYPES[name]
    solver.ClearField("solver_type")
