"""Caffe's update rules as PyTorch optimizers, one file each; ``RULES`` names them as solver files do."""

from caffe_compat.solver.rules.adadelta import AdaDelta
from caffe_compat.solver.rules.adagrad import AdaGrad
from caffe_compat.solver.rules.adam import Adam
from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.nesterov import Nesterov
from caffe_compat.solver.rules.rmsprop import RMSProp
from caffe_compat.solver.rules.sgd import SGD

RULES: dict[str, type[Rule]] = {rule.type: rule for rule in (SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam)}

__all__ = ["RULES", "SGD", "AdaDelta", "AdaGrad", "Adam", "Nesterov", "RMSProp", "Rule"]
