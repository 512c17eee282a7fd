"""Old forms of nets and solvers, rewritten to the current one as Caffe 1.0 does it on reading.

Each step is a file with ``needs_upgrade(net)`` and ``upgrade(net, log)``.  Their order is Caffe's:
V0 layers become V1, V1 data layers get a transform_param, V1 layers become current ones, then
legacy inputs and BatchNorm's three params.  At the end the CROP of forks is told its offsets.
"""

import warnings

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.source import Source
from caffe_compat.proto.upgrade import aligned_crop, batch_norm, data_transform, inputs, solver_type, v0, v1
from caffe_compat.proto.upgrade.log import UpgradeLog

__all__ = ["UpgradeLog", "upgrade_net", "upgrade_net_logged", "upgrade_solver"]

NET_STEPS = (v0, data_transform, v1, inputs, batch_norm, aligned_crop)


def upgrade_net(net: caffe_pb2.NetParameter, source: Source | str = "<message>") -> bool:
    """Upgrade a NetParameter in place; True when something changed.

    What an old form holds and the new one cannot express is dropped, as in Caffe, with a
    warning.  Raises ProtoError where Caffe refuses.
    """
    log = upgrade_net_logged(net, source)
    for text in log.problems + log.notes:
        warnings.warn(text, stacklevel=2)
    return log.changed


def upgrade_net_logged(net: caffe_pb2.NetParameter, source: Source | str = "<message>") -> UpgradeLog:
    """Like :func:`upgrade_net`, with the warnings handed back instead."""
    log = UpgradeLog(source if isinstance(source, Source) else Source(source))
    for step in NET_STEPS:
        if step.needs_upgrade(net):
            step.upgrade(net, log)
            log.changed = True
    return log


def upgrade_solver(solver: caffe_pb2.SolverParameter, source: Source | str = "<message>") -> bool:
    """Upgrade a SolverParameter in place; True when something changed.  Raises ProtoError."""
    if not solver_type.needs_upgrade(solver):
        return False
    solver_type.upgrade(solver, source.name if isinstance(source, Source) else source)
    return True
