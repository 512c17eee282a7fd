"""Every rule for window sizes: how Caffe reads kernel, stride, pad and dilation, and the
output sizes that follow.  Layers and kernels take these results and never redo them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from caffe_compat.layers.base import Shape
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.layers.base import Layer


class KernelWindow(NamedTuple):
    """What a layer's prototxt says of its window: kernel, stride, pad and dilation per spatial axis, in elements."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape

    def extent(self) -> Shape:
        """Elements that one dilated kernel spans, per axis.  (torch.compile of PyTorch 2.10 reads no property here.)"""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def with_groups(self, groups: int) -> ConvWindow:
        """What the convolution operators take beside the weight, which has the kernel's size."""
        return ConvWindow(self.stride, self.pad, self.dilation, groups)


def read_conv_window(layer: "Layer", param: caffe_pb2.ConvolutionParameter, spatial_axes: int) -> KernelWindow:
    """The window of a ConvolutionParameter for ``spatial_axes`` axes.

    Each of kernel, stride, pad is given once, once per axis, or (2-D only) as ``_h`` and ``_w``.
    Raises NetError, naming the field, where Caffe refuses.
    """
    kernel = _per_axis(layer, param, "kernel", "kernel_size", spatial_axes, default=None, least=1)
    stride = _per_axis(layer, param, "stride", "stride", spatial_axes, default=1, least=1)
    pad = _per_axis(layer, param, "pad", "pad", spatial_axes, default=0, least=0)
    dilation = _repeated(layer, param, "dilation", spatial_axes, default=1, least=1)
    return KernelWindow(kernel, stride, pad, dilation)


def _per_axis(
    layer: "Layer",
    param: caffe_pb2.ConvolutionParameter,
    stem: str,
    field: str,
    axes: int,
    *,
    default: int | None,
    least: int,
) -> Shape:
    has_h, has_w = param.HasField(f"{stem}_h"), param.HasField(f"{stem}_w")
    if not (has_h or has_w):
        return _repeated(layer, param, field, axes, default=default, least=least)
    if axes != 2:
        layer.fail(f"{stem}_h and {stem}_w are for 2 spatial axes, the bottom has {axes}; use {field}")
    if len(getattr(param, field)):
        layer.fail(f"give either {field} or {stem}_h and {stem}_w, not both")
    values = (int(getattr(param, f"{stem}_h")), int(getattr(param, f"{stem}_w")))
    _check_least(layer, stem, values, least)
    return values


def _repeated(
    layer: "Layer", param: caffe_pb2.ConvolutionParameter, field: str, axes: int, *, default: int | None, least: int
) -> Shape:
    given = [int(value) for value in getattr(param, field)]
    if not given and default is not None:
        given = [default]
    if len(given) not in (1, axes):
        layer.fail(f"{field} is given {len(given)} times; expected once, or once for each of {axes} spatial axes")
    values = tuple(given * axes if len(given) == 1 else given)
    _check_least(layer, field, values, least)
    return values


def _check_least(layer: "Layer", field: str, values: Sequence[int], least: int) -> None:
    if any(value < least for value in values):
        layer.fail(f"{field} is {min(values)}; expected at least {least}")


def conv_sizes(layer: "Layer", sizes: Sequence[int], window: KernelWindow) -> Shape:
    """Convolution: (size + 2 pad - extent) / stride + 1, per axis, rounded towards zero.

    So a window that overhangs the padded bottom by less than one stride still counts; PyTorch
    refuses it.
    """
    rooms = [size + 2 * pad - extent for size, pad, extent in zip(sizes, window.pad, window.extent(), strict=True)]
    out = tuple(
        (room // stride if room >= 0 else -(-room // stride)) + 1
        for room, stride in zip(rooms, window.stride, strict=True)
    )
    if any(size < 1 for size in out):
        layer.fail(
            f"kernel {window.kernel} with pad {window.pad} and dilation {window.dilation} "
            f"does not fit a bottom of {tuple(sizes)}"
        )
    return out


def overhang(sizes: Sequence[int], window: KernelWindow) -> Shape:
    """Zeros that a convolution has to append per axis so that its first window fits."""
    return tuple(
        max(0, extent - size - 2 * pad) for size, pad, extent in zip(sizes, window.pad, window.extent(), strict=True)
    )


def end_pads(sizes: Sequence[int], outputs: Sequence[int], window: KernelWindow) -> list[int]:
    """The pad at each axis' end, for ONNX; more than given where Caffe's one window overhangs a small bottom."""
    axes = zip(sizes, outputs, window.extent(), window.stride, window.pad, strict=True)
    return [max(pad, (output - 1) * stride + extent - pad - size) for size, output, extent, stride, pad in axes]


def deconv_sizes(sizes: Sequence[int], window: KernelWindow) -> Shape:
    """Deconvolution: stride (size - 1) + extent - 2 pad, per axis."""
    return tuple(
        stride * (size - 1) + extent - 2 * pad
        for size, pad, extent, stride in zip(sizes, window.pad, window.extent(), window.stride, strict=True)
    )


def pooled_size(
    size: int, kernel: int, stride: int, pad: int, *, padded: bool, ceil_mode: bool = True, end_pad: int | None = None
) -> int:
    """Pooling windows along one axis; ``end_pad``: the pad at its end, where that is another.

    Caffe rounds up, and drops a last window that would start in the padding, but does so only
    when the layer is ``padded`` on some axis; PyTorch always drops it, so that without padding
    and with kernel < stride the two differ.
    """
    room = size + pad + (pad if end_pad is None else end_pad) - kernel
    windows = (-(-room // stride) if ceil_mode else room // stride) + 1
    if padded and (windows - 1) * stride >= size + pad:
        windows -= 1
    return windows


def window_details(param: caffe_pb2.ConvolutionParameter | caffe_pb2.PoolingParameter) -> list[str]:
    """Kernel, stride and pad of a ConvolutionParameter or PoolingParameter, as far as they are given, in one line."""
    texts = [f"{name} {text}" for name in ("kernel", "stride", "pad") if (text := _sizes_text(param, name))]
    return [", ".join(texts)] if texts else []


def _sizes_text(param: caffe_pb2.ConvolutionParameter | caffe_pb2.PoolingParameter, name: str) -> str:
    """``3``, or ``3x5`` per axis; empty when not given."""
    if param.HasField(f"{name}_h") or param.HasField(f"{name}_w"):
        return f"{getattr(param, f'{name}_h')}x{getattr(param, f'{name}_w')}"
    field = "kernel_size" if name == "kernel" else name
    value = getattr(param, field)
    if isinstance(value, int):
        return str(value) if param.HasField(field) else ""
    return "x".join(map(str, value))
