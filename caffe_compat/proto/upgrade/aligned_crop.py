"""AlignedCrop, the CROP of V1 nets (FCN, HED, CRF-RNN), and RCF's AutoCrop to a Crop that is told its offsets.

That layer finds them by itself: from both bottoms it goes up the net, by each layer's first bottom, to the blob where
the ways meet.  Each layer on the way maps places of its bottom to places of its top: a convolution or pooling x to
(x - (extent - 1) / 2 + pad) / stride, a deconvolution back.  The offset is where place 0 of bottom 1 lies in bottom 0.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.upgrade.log import UpgradeLog

TYPES = ("AlignedCrop", "AutoCrop")
WINDOWS = {
    "Convolution": "convolution_param",
    "ConvolutionDepthwise": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Im2col": "convolution_param",
    "Pooling": "pooling_param",
}
#: layers that leave each value where it is
IN_PLACE = {
    "AbsVal", "BatchNorm", "Bias", "BN", "BNLL", "Clip", "Concat", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN",
    "MVN", "Power", "PReLU", "ReLU", "ReLU6", "Scale", "Sigmoid", "Slice", "Softmax", "Split", "Swish", "TanH",
    "Threshold",
}  # fmt: skip


class Map(NamedTuple):
    """Place x of one blob is place ``scale * x + shift`` of another, along one axis."""

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def after(self, first: "Map") -> "Map":
        """``first``, then this one."""
        return Map(self.scale * first.scale, self.scale * first.shift + self.shift)

    def inverse(self) -> "Map":
        """The way back."""
        return Map(1 / self.scale, -self.shift / self.scale)


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """True when a layer is of one of these types."""
    return any(layer.type in TYPES for layer in net.layer)


def upgrade(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Make each a Crop from axis 2 on, in place.  Raises ProtoError where its bottoms cannot be aligned."""
    makers: dict[str, Any] = {}
    for layer in net.layer:
        if layer.type in TYPES:
            if len(layer.bottom) != 2:
                count = len(layer.bottom)
                log.fail(layer.name, f"({layer.type}) has {count} bottoms; expected what to crop and its size")
            offsets = [_offset(layer, makers, log, side) for side in "hw"]
            layer.crop_param.Clear()
            layer.crop_param.axis = 2
            layer.crop_param.offset.extend(offsets)
            layer.type = "Crop"
        for top in layer.top:
            makers.setdefault(top, layer)  # not the ones that later work in place on it


def _offset(crop: caffe_pb2.LayerParameter, makers: dict[str, Any], log: UpgradeLog, side: str) -> int:
    """``side``: h or w."""
    above = dict(_way_up(crop.bottom[0], makers, log, side))
    for blob, to_size in _way_up(crop.bottom[1], makers, log, side):
        if blob in above:
            found = to_size.after(above[blob].inverse())
            if found.scale != 1 or found.shift > 0 or found.shift.denominator != 1:
                log.fail(
                    crop.name,
                    f"bottom 0 cannot be cropped to bottom 1: along {side} place x of the one is place "
                    f"{found.scale} x + {found.shift} of the other; expected x less a whole number",
                )
            return -int(found.shift)
    log.fail(crop.name, "its bottoms come from no blob in common; use type: 'Crop' with crop_param { offset: ... }")


def _way_up(blob: str, makers: dict[str, Any], log: UpgradeLog, side: str) -> Iterator[tuple[str, Map]]:
    """A blob and those that it comes from, each with the map from there to the first."""
    way = Map()
    yield blob, way
    while blob in makers and makers[blob].bottom:
        layer = makers[blob]
        way = way.after(_map(layer, log, side))
        blob = layer.bottom[0]
        yield blob, way


def _map(layer: caffe_pb2.LayerParameter, log: UpgradeLog, side: str) -> Map:
    if layer.type in IN_PLACE:
        return Map()
    if layer.type == "Crop" and layer.crop_param.axis in (2, -2):
        offsets = [*layer.crop_param.offset] or [0]
        return Map(shift=Fraction(-offsets[-1 if side == "w" else 0]))
    if layer.type not in WINDOWS or (layer.type == "Pooling" and layer.pooling_param.global_pooling):
        log.fail(layer.name, f"({layer.type}) has no map of places, by which the offsets of a crop could be found")
    param = getattr(layer, WINDOWS[layer.type])
    kernel = _size(param, "kernel_size", f"kernel_{side}", side, 1)
    dilation = _size(param, "dilation", "", side, 1)
    stride, pad = _size(param, "stride", f"stride_{side}", side, 1), _size(param, "pad", f"pad_{side}", side, 0)
    back = Map(Fraction(stride), Fraction(dilation * (kernel - 1), 2) - pad)
    return back if layer.type == "Deconvolution" else back.inverse()


def _size(param: Any, name: str, side_name: str, side: str, default: int) -> int:
    """A field that is given once, once for each axis, or as ``_h`` and ``_w``."""
    if side_name and param.HasField(side_name):
        return int(getattr(param, side_name))
    value = getattr(param, name, default)
    if isinstance(value, int):
        return value or default
    given = [int(one) for one in value]
    return given[-1 if side == "w" else 0] if given else default
