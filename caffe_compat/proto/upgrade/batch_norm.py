"""BatchNorm layers that declare their three statistics as params: these are never trained."""

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.upgrade.log import UpgradeLog


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """True when a BatchNorm layer has exactly three params."""
    return bool(_layers(net))


def upgrade(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Set lr_mult and decay_mult of those params to 0, in place."""
    for layer in _layers(net):
        for spec in layer.param:
            spec.lr_mult = 0
            spec.decay_mult = 0


def _layers(net: caffe_pb2.NetParameter) -> list[caffe_pb2.LayerParameter]:
    return [layer for layer in net.layer if layer.type == "BatchNorm" and len(layer.param) == 3]
