"""Pooling over two spatial axes: MAX, AVE and STOCHASTIC, with Caffe's sizes and divisors."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import MAX_COUNT, Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.geometry import pooled_size, window_details
from caffe_compat.ops.pool import CPU_DTYPES, CUDA_DTYPES, MOST_TAPS, max_pool
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

FLT_MAX = torch.finfo(torch.float32).max  # an empty window has -FLT_MAX, in float64 too


class _RefuseBackward(torch.autograd.Function):
    """Identity whose backward raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, refuse: Callable[[], NoReturn]) -> Tensor:
        ctx.refuse = refuse
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, top_diff: Tensor) -> Any:
        ctx.refuse()


@register("Pooling")
class Pooling(Layer):
    """Bottom (N, C, H, W) -> top (N, C, H', W'); MAX can have a second top with the index of each
    maximum in its H x W plane (the first one wins a tie).

    ``engine: CAFFE`` runs this package's MAX pooling where it can, ``CUDNN`` PyTorch's; ``DEFAULT``
    takes ours on the CPU, where it is the faster one.
    """

    param_fields = ("pooling_param",)
    keeps_forward = True
    fork_fields = ("pooling_param.ceil_mode", *(f"pooling_param.pad_{side}" for side in "tblr"))
    top_count = (1, 2)
    graph_safe = True
    drawing_kind = "shape"

    def setup(self, bottom: Shape) -> None:
        param = self.param.pooling_param
        self.method: str = param.PoolMethod.Name(param.pool)
        self.engine: str = param.Engine.Name(param.engine)
        self.ceil_mode = self._rounds_up()
        self.global_pooling = bool(param.global_pooling)
        self.kernel = self._read_kernel()
        self.pad = self.end_pad = self._read_pair("pad", 0)
        self._read_borders()
        self.stride = self._read_pair("stride", 1)
        if min(self.stride) < 1:
            self.fail(f"pooling_param.stride is {min(self.stride)}; expected at least 1")
        if max(*self.kernel, *self.pad, *self.end_pad, *self.stride) > MAX_COUNT:
            self.fail(
                f"pooling_param has kernel {self.kernel}, pad {self.pad}, stride {self.stride}; at most {MAX_COUNT}"
            )
        if self.global_pooling and (self.padded or self.stride != (1, 1)):
            self.fail("pooling_param.global_pooling takes pad 0 and stride 1 only")
        if self.padded:
            if self.method == "STOCHASTIC":
                self.fail("pooling_param.pad is for MAX and AVE pooling only")
            for pads in (self.pad, self.end_pad):
                if any(p >= k for p, k in zip(pads, self.kernel, strict=True)):
                    self.fail(f"pooling_param.pad {pads} must be smaller than the kernel {self.kernel}")
        if self.num_tops > 1 and self.method != "MAX":
            self.fail(f"a second top (the mask) is for MAX pooling; pool is {self.method}")

    def _rounds_up(self) -> bool:
        """By round_mode, or by the ``ceil_mode`` of forks."""
        param = self.param.pooling_param
        ours, fork = param.round_mode == param.CEIL, bool(param.ceil_mode)
        if not param.HasField("round_mode"):
            return fork
        if param.HasField("ceil_mode") and fork != ours:
            self.fail("pooling_param.ceil_mode and round_mode contradict each other; remove one")
        return ours

    def _read_kernel(self) -> tuple[int, int]:
        param = self.param.pooling_param
        one, h, w = (param.HasField(f) for f in ("kernel_size", "kernel_h", "kernel_w"))
        if self.global_pooling:
            if one or h or w:
                self.fail("pooling_param.global_pooling takes the whole bottom; remove kernel_size, kernel_h, kernel_w")
            return (0, 0)
        if one == (h and w):
            self.fail("pooling_param needs kernel_size, or both kernel_h and kernel_w (not both forms)")
        kernel = (param.kernel_size, param.kernel_size) if one else (param.kernel_h, param.kernel_w)
        if min(kernel) < 1:
            self.fail(f"pooling_param kernel is {kernel}; expected at least 1")
        return int(kernel[0]), int(kernel[1])

    def _read_pair(self, field: str, default: int) -> tuple[int, int]:
        param = self.param.pooling_param
        one, h, w = (param.HasField(f) for f in (field, f"{field}_h", f"{field}_w"))
        if (h or w) and (one or not (h and w)):
            self.fail(f"pooling_param takes {field}, or both {field}_h and {field}_w (not both forms)")
        if h:
            return int(getattr(param, f"{field}_h")), int(getattr(param, f"{field}_w"))
        value = int(getattr(param, field)) if one else default
        return value, value

    def _read_borders(self) -> None:
        """A fork's pad_t, pad_b, pad_l and pad_r, in place of pad."""
        param = self.param.pooling_param
        top, bottom, left, right = (int(getattr(param, f"pad_{side}")) for side in "tblr")
        if not any((top, bottom, left, right)):
            return
        if any(param.HasField(field) for field in ("pad", "pad_h", "pad_w")):
            self.fail("pooling_param takes pad, or pad_t, pad_b, pad_l and pad_r (not both forms)")
        self.pad, self.end_pad = (top, left), (bottom, right)

    @property
    def padded(self) -> bool:
        """Whether there is a border on any side."""
        return any((*self.pad, *self.end_pad))

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) != 4:
            self.fail(f"bottom has shape {bottom}; expected 4 axes (N, C, H, W)")
        sizes = self._output_sizes(bottom[2], bottom[3])
        if min(sizes) < 1:
            self.fail(f"kernel {self.kernel} with pad {self.pad} does not fit a bottom of shape {bottom}")
        return [(*bottom[:2], *sizes)] * self.num_tops

    def _output_sizes(self, height: int, width: int) -> tuple[int, int]:
        kernel = (height, width) if self.global_pooling else self.kernel
        rounding = {"padded": self.padded, "ceil_mode": self.ceil_mode}
        h, w = (
            pooled_size(size, kernel[i], self.stride[i], self.pad[i], end_pad=self.end_pad[i], **rounding)
            for i, size in enumerate((height, width))
        )
        return h, w

    def _refuse_backward(self) -> NoReturn:
        self.fail(
            f"kernel {self.kernel} with stride {self.stride} leaves a MAX window wholly outside the bottom, which has "
            "no gradient (Caffe crashes there); use a larger kernel, a smaller stride, or round_mode: FLOOR"
        )

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        kernel = (bottom.shape[2], bottom.shape[3]) if self.global_pooling else self.kernel
        if self.method == "MAX":
            return self._max(bottom, kernel)
        if self.method == "AVE":
            return self._ave(bottom, kernel)
        return self._stochastic(bottom, kernel)

    def _torch_agrees(self, bottom: Tensor, kernel: tuple[int, int]) -> bool:
        """Whether PyTorch's own pooling has Caffe's windows: its padding ends at half a kernel,
        and it always drops a window that starts in the padding."""
        if self.pad != self.end_pad:
            return False
        h, w = bottom.shape[2:]
        ours = self._output_sizes(h, w)
        theirs = tuple(
            pooled_size(size, kernel[i], self.stride[i], self.pad[i], padded=self.ceil_mode, ceil_mode=self.ceil_mode)
            for i, size in enumerate((h, w))
        )
        return ours == theirs and all(2 * p <= k for p, k in zip(self.pad, kernel, strict=True))

    def max_pool_window(self, bottom: Tensor) -> tuple[Shape, Shape, Shape, Shape] | None:
        """Kernel, stride, pad and output size for ``ops.max_pool``; None where it does not do what this layer does."""
        if self.method != "MAX" or self.num_tops > 1 or bottom.dim() != 4:
            return None
        h, w = bottom.shape[2:]
        kernel = (h, w) if self.global_pooling else self.kernel
        out = self._output_sizes(h, w)
        starts = [(size - 1) * stride - pad for size, stride, pad in zip(out, self.stride, self.pad, strict=True)]
        fits = kernel[0] * kernel[1] <= MOST_TAPS and starts[0] < h and starts[1] < w and min(out) > 0
        dtypes = CPU_DTYPES if bottom.device.type == "cpu" else CUDA_DTYPES
        return (kernel, self.stride, self.pad, out) if fits and bottom.dtype in dtypes else None

    def _max(self, bottom: Tensor, kernel: tuple[int, int]) -> Tensor | tuple[Tensor, Tensor]:
        if self.engine == "CAFFE" or (self.engine == "DEFAULT" and bottom.device.type == "cpu"):
            window = self.max_pool_window(bottom)
            if window is not None:
                return max_pool(bottom, *window)
        mask = self.num_tops > 1
        if self._torch_agrees(bottom, kernel):
            top, index = functional.max_pool2d(
                bottom, kernel, self.stride, self.pad, ceil_mode=self.ceil_mode, return_indices=True
            )
            return (top, index.to(bottom.dtype)) if mask else top
        padded, sizes = self._pad_to_windows(bottom, kernel, -FLT_MAX)
        top, index = functional.max_pool2d(padded, kernel, self.stride, return_indices=True)
        empty = [self._starts_outside(bottom, axis, sizes[axis]) for axis in (0, 1)]
        outside = empty[0][:, None] | empty[1]
        if any((sizes[i] - 1) * self.stride[i] - self.pad[i] >= bottom.shape[2 + i] for i in (0, 1)):
            top = _RefuseBackward.apply(top, self._refuse_backward)
        if not mask:
            return top
        width = padded.shape[3]
        row, column = index // width - self.pad[0], index % width - self.pad[1]
        index = torch.where(outside, -1, row * bottom.shape[3] + column)
        return top, index.to(bottom.dtype)

    def _starts_outside(self, bottom: Tensor, axis: int, windows: int) -> Tensor:
        starts = torch.arange(windows, device=bottom.device) * self.stride[axis] - self.pad[axis]
        return starts >= bottom.shape[2 + axis]

    def _ave(self, bottom: Tensor, kernel: tuple[int, int]) -> Tensor:
        if self._torch_agrees(bottom, kernel):
            # PyTorch took Caffe's divisor: the window clipped to the padded bottom.
            return functional.avg_pool2d(bottom, kernel, self.stride, self.pad, ceil_mode=self.ceil_mode)
        padded, sizes = self._pad_to_windows(bottom, kernel, 0.0)
        total = functional.avg_pool2d(padded, kernel, self.stride, divisor_override=1)
        areas = [self._clipped_lengths(bottom, kernel, axis, sizes[axis]) for axis in (0, 1)]
        return total / (areas[0][:, None] * areas[1])

    def _clipped_lengths(self, bottom: Tensor, kernel: tuple[int, int], axis: int, windows: int) -> Tensor:
        # 0 or less for a window outside the padded bottom, where Caffe divides 0 by 0 as well.
        end = bottom.shape[2 + axis] + self.end_pad[axis]
        starts = torch.arange(windows, device=bottom.device) * self.stride[axis] - self.pad[axis]
        return ((starts + kernel[axis]).clamp(max=end) - starts).to(bottom.dtype)

    def _pad_to_windows(self, bottom: Tensor, kernel: tuple[int, int], value: float) -> tuple[Tensor, tuple[int, int]]:
        """Pad so that every window lies inside; also the number of windows per axis."""
        sizes = self._output_sizes(bottom.shape[2], bottom.shape[3])
        after = [
            max(0, (sizes[i] - 1) * self.stride[i] + kernel[i] - self.pad[i] - bottom.shape[2 + i]) for i in (0, 1)
        ]
        padding = (self.pad[1], after[1], self.pad[0], after[0])
        padded_axes = [bottom.shape[2 + i] + self.pad[i] + after[i] for i in (0, 1)]
        shape, what = (*bottom.shape[:2], *padded_axes), "bottom 0, padded so that every window lies inside,"
        self.check_count(what, shape)
        if bottom.device.type == "cpu" and not torch.compiler.is_compiling():
            self.check_memory(f"{what} of shape {shape}", count(shape) * bottom.dtype.itemsize)
        padded = functional.pad(bottom, padding, value=value)
        ends = [(sizes[i] - 1) * self.stride[i] + kernel[i] for i in (0, 1)]
        return padded[:, :, : ends[0], : ends[1]], sizes

    def _stochastic(self, bottom: Tensor, kernel: tuple[int, int]) -> Tensor:
        """Zeiler and Fergus, ICLR 2013: TRAIN draws one value per window with probability
        proportional to it, TEST takes the expectation."""
        if bottom.device.type == "cpu":
            self.fail("STOCHASTIC pooling runs on CUDA only, as in Caffe; move the net to a GPU")
        padded, _ = self._pad_to_windows(bottom, kernel, 0.0)
        # (N, C, H', W', kernel_h * kernel_w)
        windows = padded.unfold(2, kernel[0], self.stride[0]).unfold(3, kernel[1], self.stride[1]).flatten(4)
        total = windows.sum(-1)
        if not self.training:
            positive = total > 0
            expectation = windows.square().sum(-1) / torch.where(positive, total, torch.ones_like(total))
            return torch.where(positive, expectation, torch.zeros_like(total))
        threshold = torch.rand_like(total) * total
        chosen = (windows.cumsum(-1) < threshold.unsqueeze(-1)).sum(-1, keepdim=True)
        return windows.gather(-1, chosen.clamp(max=windows.shape[-1] - 1)).squeeze(-1)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        # Pads with which rounding down gives Caffe's windows: ONNX's own ceil_mode drops others than Caffe.
        if self.method == "STOCHASTIC":
            self.fail("STOCHASTIC pooling has no ONNX form: it runs on CUDA only, so that no file could be checked")
        sizes, outputs = step.bottom_shapes[0][2:], step.top_shapes[0][2:]
        varies = step.varies(0, (2, 3))
        if self.global_pooling and (varies or self.num_tops == 1):
            if self.num_tops > 1:
                self.fail("a mask over the whole of a map needs a fixed height and width")
            return [graph.add("GlobalMaxPool" if self.method == "MAX" else "GlobalAveragePool", step.bottoms[0])]
        kernel = sizes if self.global_pooling else self.kernel
        if varies:
            ends = self._end_pads_of_all_sizes()
        else:
            ends = [max(0, (outputs[i] - 1) * self.stride[i] + kernel[i] - self.pad[i] - sizes[i]) for i in (0, 1)]
        if self.method == "MAX":
            return self._onnx_max(graph, step, kernel, ends)
        return [self._onnx_ave(graph, step.bottoms[0], kernel, ends)]

    def _end_pads_of_all_sizes(self) -> list[int]:
        """Pads at the end that give as many windows as Caffe's rule, rounded down, for every size of bottom.

        Of size, pads p and q, kernel k, stride s: ceil((size + p + q - k) / s) is floor((size + p + e - k) / s) for
        e = q + s - 1; with padding a last window that would start at size + p or later is dropped: e is at most k - 1.
        """
        if not self.ceil_mode:
            return list(self.end_pad)
        axes = zip(self.end_pad, self.stride, self.kernel, strict=True)
        return [min(q + s - 1, k - 1) if self.padded else s - 1 for q, s, k in axes]

    def _onnx_max(self, graph: "OnnxGraph", step: "OnnxStep", kernel: Shape, ends: Sequence[int]) -> list[str]:
        value, pads = step.bottoms[0], [*self.pad, *ends]
        if any(end >= k for end, k in zip(ends, kernel, strict=True)):
            # A window wholly outside, which MaxPool itself refuses.
            if self.num_tops > 1:
                self.fail("a mask with a window wholly outside the bottom has no ONNX form")
            value = graph.add("Pad", value, graph.sizes([0, 0, *self.pad, 0, 0, *ends]), graph.constant(-FLT_MAX))
            pads = [0] * 4
        window = {"kernel_shape": kernel, "strides": self.stride, "pads": pads}
        if self.num_tops == 1:
            return [graph.add("MaxPool", value, **window)]
        top, places = graph.add_many("MaxPool", [value], 2, **window)
        # ONNX counts through all planes, Caffe within one.
        height, width = (graph.size(step.size_of(0, axis)) for axis in (2, 3))
        return [top, graph.to_float32(graph.add("Mod", places, graph.add("Mul", height, width)))]

    def _onnx_ave(self, graph: "OnnxGraph", value: str, kernel: Shape, ends: Sequence[int]) -> str:
        # The divisor is the window clipped to the padded bottom: what lies beyond the pad does not count.
        inner = [min(pad, end) for pad, end in zip(self.end_pad, ends, strict=True)]
        beyond = [end - kept for end, kept in zip(ends, inner, strict=True)]
        window = {"kernel_shape": kernel, "strides": self.stride}
        if not any(beyond):
            return graph.add("AveragePool", value, pads=[*self.pad, *inner], count_include_pad=1, **window)
        if any(end >= k for end, k in zip(beyond, kernel, strict=True)):
            self.fail("an AVE window wholly outside the bottom (nan in Caffe) has no ONNX form")
        if any((*self.pad, *inner)):
            value = graph.add("Pad", value, graph.sizes([0, 0, *self.pad, 0, 0, *inner]), graph.constant(0.0))
        return graph.add("AveragePool", value, pads=[0, 0, *beyond], **window)

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        pool = param.pooling_param
        method = pool.PoolMethod.Name(pool.pool)
        return [f"{method}, global" if pool.global_pooling else method, *window_details(pool)]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        method = dice.pick("MAX", "AVE")
        tops = dice.integer(1, 2) if method == "MAX" else 1
        kernel = dice.integer(1, 4)
        window = f"kernel_size: {kernel} stride: {dice.integer(1, kernel)} pad: {dice.integer(0, kernel - 1)}"
        if dice.integer(0, 4) == 0:
            window = "global_pooling: true"
        fields = f"pool: {method} {window} round_mode: {dice.pick('CEIL', 'FLOOR')}"
        return Example(f"pooling_param {{ {fields} }}", [dice.normal(*dice.image())], tops=tops)
