"""Training: solver files, learning rate policies, update rules, snapshots and the log.

Public names are loaded on first use; log, events and their readers need no torch.
"""

from typing import TYPE_CHECKING

from caffe_compat.lazy import lazy

if TYPE_CHECKING:
    from caffe_compat.solver.events import Event, read_events
    from caffe_compat.solver.log import Log, Score
    from caffe_compat.solver.log_reader import LogEvent, read_log, read_logs, score_curve
    from caffe_compat.solver.rules import RULES, Rule, Setting, register_rule
    from caffe_compat.solver.rules.adadelta import AdaDelta
    from caffe_compat.solver.rules.adagrad import AdaGrad
    from caffe_compat.solver.rules.adam import Adam
    from caffe_compat.solver.rules.nesterov import Nesterov
    from caffe_compat.solver.rules.rmsprop import RMSProp
    from caffe_compat.solver.rules.sgd import SGD
    from caffe_compat.solver.schedule import Schedule
    from caffe_compat.solver.snapshot import find_snapshot
    from caffe_compat.solver.solver import Solver

_HOME = {
    "RULES": "solver.rules",
    "SGD": "solver.rules.sgd",
    "AdaDelta": "solver.rules.adadelta",
    "AdaGrad": "solver.rules.adagrad",
    "Adam": "solver.rules.adam",
    "Event": "solver.events",
    "Log": "solver.log",
    "LogEvent": "solver.log_reader",
    "Nesterov": "solver.rules.nesterov",
    "RMSProp": "solver.rules.rmsprop",
    "Rule": "solver.rules",
    "Schedule": "solver.schedule",
    "Score": "solver.log",
    "Setting": "solver.rules",
    "Solver": "solver.solver",
    "find_snapshot": "solver.snapshot",
    "read_events": "solver.events",
    "read_log": "solver.log_reader",
    "read_logs": "solver.log_reader",
    "register_rule": "solver.rules",
    "score_curve": "solver.log_reader",
}

__all__ = [
    "RULES",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "Event",
    "Log",
    "LogEvent",
    "Nesterov",
    "RMSProp",
    "Rule",
    "Schedule",
    "Score",
    "Setting",
    "Solver",
    "find_snapshot",
    "read_events",
    "read_log",
    "read_logs",
    "register_rule",
    "score_curve",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
