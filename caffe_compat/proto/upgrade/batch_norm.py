"""BatchNorm layers that declare their three statistics as params: these are never trained."""

from typing import Any

from caffe_compat.proto.upgrade.log import UpgradeLog


def needs_upgrade(net: Any) -> bool:
    """True when a BatchNorm layer has exactly three params."""
    return bool(_layers(net))


def upgrade(net: Any, log: UpgradeLog) -> None:
    """Set lr_mult and decay_mult of those params to 0, in place."""
    for layer in _layers(net):
        for spec in layer.param:
            spec.lr_mult = 0
            spec.decay_mult = 0


def _layers(net: Any) -> list[Any]:
    return [layer for layer in net.layer if layer.type == "BatchNorm" and len(layer.param) == 3]
