"""Training: solver files, learning rate policies, update rules, snapshots and the log."""

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
