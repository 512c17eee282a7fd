"""From a SolverParameter and a net's learnable parameters to the update rule."""

from torch import nn

from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver.rules import RULES, Rule


def build_optimizer(param: caffe_pb2.SolverParameter, net: Net) -> Rule:
    """The rule that ``param.type`` names, with one group for each pair of lr_mult and decay_mult."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for learnable in net.learnable:
        groups.setdefault((learnable.lr_mult, learnable.decay_mult), []).append(learnable.parameter)
    rule_class = RULES[param.type]
    rule = rule_class(
        # An empty list of groups (a net without parameters) is refused by torch; an empty group is not.
        [{"params": ps, "lr_mult": lr, "decay_mult": decay} for (lr, decay), ps in groups.items()] or [{"params": []}],
        lr=param.base_lr,
        weight_decay=param.weight_decay,
        regularization_type=param.regularization_type,
        clip_gradients=param.clip_gradients,
        iter_size=param.iter_size,
        **{setting.name: setting.value_in(param) for setting in rule_class.settings},
    )
    rule.keep_update = param.snapshot_diff
    return rule
