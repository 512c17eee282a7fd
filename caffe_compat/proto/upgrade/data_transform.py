"""V1 data layers: scale, mean_file, crop_size and mirror move into transform_param."""

from typing import Any

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.upgrade.log import UpgradeLog

_PARAM = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_MOVED = ("scale", "mean_file", "crop_size", "mirror")


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """True when a V1 data layer has one of the four in its own parameter message."""
    return any(param.HasField(name) for _, param in _data_layers(net) for name in _MOVED)


def upgrade(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Move the four fields in every V1 data layer, in place."""
    for layer, param in _data_layers(net):
        # Caffe leaves both messages present, though perhaps empty.
        param.SetInParent()
        layer.transform_param.SetInParent()
        for name in _MOVED:
            if param.HasField(name):
                setattr(layer.transform_param, name, getattr(param, name))
                param.ClearField(name)


def _data_layers(net: caffe_pb2.NetParameter) -> list[tuple[Any, Any]]:
    names = {caffe_pb2.V1LayerParameter.LayerType.Value(name): param for name, param in _PARAM.items()}
    return [(layer, getattr(layer, names[layer.type])) for layer in net.layers if layer.type in names]
