"""Training: solver files, learning rate policies, update rules, snapshots and the log."""

from caffe_compat.solver.events import Event, read_events
from caffe_compat.solver.log import Log, Score
from caffe_compat.solver.log_reader import LogEvent, read_log, read_logs, score_curve
from caffe_compat.solver.rules import RULES, SGD, AdaDelta, AdaGrad, Adam, Nesterov, RMSProp
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
    "Schedule",
    "Score",
    "Solver",
    "find_snapshot",
    "read_events",
    "read_log",
    "read_logs",
    "score_curve",
]
