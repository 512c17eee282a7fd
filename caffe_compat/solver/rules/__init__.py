"""Caffe's update rules as PyTorch optimizers: one file for each, found by its place in this folder."""

from importlib import import_module
from pkgutil import iter_modules

from caffe_compat.solver.rules.base import Rule
from caffe_compat.solver.rules.registry import RULES, register_rule
from caffe_compat.solver.rules.setting import Setting

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

__all__ = ["RULES", "Rule", "Setting", "register_rule"]
