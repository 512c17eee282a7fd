"""Which path computes a convolution on CUDA: a table measured on the machine, or a rule of thumb.

``benchmarks/tune_conv.py`` times every path for the shapes of a net and writes the table, one section for each GPU, to
``$CAFFE_COMPAT_CONV_TABLE`` or ``caffe_compat/conv_table.json`` under the user's cache folder.  It is read at the first
convolution on CUDA.  For what the table does not have:

- one group: cuDNN, whose dense convolutions are fast;
- several groups whose channels, in and out, fill 16 bytes (8 of a 16-bit type, 4 of float32): our channels_last
  kernel, also for NCHW tensors, though bringing them into channels_last costs a pass over their bytes;
- anything else, such as float64: cuDNN.

A Convolution layer with ``engine: DEFAULT`` asks here only when there is a table for its GPU (``is_tuned``).  Before
``tune_conv.py`` has timed and checked the kernels on that GPU, the layer takes cuDNN.

float32 is computed as ``caffe_compat.precision`` says, on every path and in both passes.
``CAFFE_COMPAT_EXACT=1`` takes Caffe's own im2col and matrix products everywhere.  Each choice is logged once.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import CaffeCompatError
from caffe_compat.ops.conv_paths import PATHS, memory_format
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.precision import precision, switched

log = logging.getLogger(__name__)

OPERATIONS = ("output", "input_grad", "weight_grad")
TABLE_VARIABLE = "CAFFE_COMPAT_CONV_TABLE"
PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64", torch.float32: "fp32"}
_forced: str | None = None


def table_path() -> Path:
    """Where the table is read from and written to."""
    if named := os.environ.get(TABLE_VARIABLE):
        return Path(named)
    return _cache_folder() / "conv_table.json"


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "caffe_compat"


def _told_before(path: Path) -> bool:
    """Whether this user has been told that the table is missing: one line, not one from every process."""
    mark = _cache_folder() / f"no_table_{sha256(str(path.absolute()).encode()).hexdigest()[:16]}"
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch(exist_ok=False)
    except FileExistsError:
        return True
    except OSError:  # no place for the mark: told again
        pass
    return False


@cache
def read_table() -> dict[str, dict[str, str]]:
    """{device name: {key: path}}; empty when there is no table.  CaffeCompatError for a broken one."""
    path = table_path()
    if TABLE_VARIABLE in os.environ and not path.exists() and _told_before(path):
        return {}
    if not path.exists():
        if TABLE_VARIABLE in os.environ:
            log.warning("%s: no such file, but %s names it; benchmarks/tune_conv.py writes it", path, TABLE_VARIABLE)
        return {}
    try:
        devices = json.loads(path.read_text())["devices"]
        table = {device: {key: entry["path"] for key, entry in rows.items()} for device, rows in devices.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaffeCompatError(f"{path}: not a convolution table ({error!r}); run benchmarks/tune_conv.py") from error
    for device, rows in table.items():
        for key, name in rows.items():
            if name not in PATHS:
                raise CaffeCompatError(
                    f"{path}: {device}, {key}: path is {name!r}; expected one of {', '.join(PATHS)}; "
                    "run benchmarks/tune_conv.py again"
                )
    return table


def is_tuned(device: torch.device) -> bool:
    """Whether there is a table for this CUDA device."""
    return device.type == "cuda" and torch.cuda.get_device_name(device) in read_table()


# What the decorator torch.compiler.assume_constant_result does, so that torch.compile takes the answer without tracing
# how it is found; the decorator itself would import torch._dynamo, which takes longer than all of this package.
vars(is_tuned)["_dynamo_marked_constant"] = True


def precision_name(dtype: torch.dtype) -> str:
    """As in the table: float32 is ``fp32``, or ``tf32`` where ``use_precision`` says so."""
    return "tf32" if dtype == torch.float32 and precision() != "fp32" else PRECISIONS[dtype]


def table_key(
    operation: str,
    number_type: str,
    *,
    channels_last: bool,
    input: Sequence[int],
    weight: Sequence[int],
    window: ConvWindow,
) -> str:
    """``output bf16 NHWC 256x96x27x27 256x48x5x5 s1x1 p2x2 d1x1 g2``: sizes of input and weight, then the window."""
    sizes = ["x".join(map(str, shape)) for shape in (input, weight)]
    spans = [name + "x".join(map(str, span)) for name, span in zip("spd", window[:3], strict=True)]
    return " ".join([operation, number_type, "NHWC" if channels_last else "NCHW", *sizes, *spans, f"g{window.groups}"])


def rule_of_thumb(number_type: str, input: Sequence[int], weight: Sequence[int], groups: int) -> str:
    """The path for sizes that are not in the table; see the head of this file."""
    per_access = {"fp16": 8, "bf16": 8, "fp32": 4, "tf32": 4}.get(number_type)
    if groups == 1 or per_access is None or weight[1] % per_access or weight[0] // groups % per_access:
        return "cudnn"
    return "ours_nhwc"


@cache
def choose(
    device: str,
    operation: str,
    number_type: str,
    *,
    channels_last: bool,
    input: tuple[int, ...],
    weight: tuple[int, ...],
    window: ConvWindow,
) -> str:
    """The path for these sizes; each is chosen, and logged, once."""
    key = table_key(operation, number_type, channels_last=channels_last, input=input, weight=weight, window=window)
    measured = read_table().get(device, {}).get(key)
    path = measured or rule_of_thumb(number_type, input, weight, window.groups)
    log.info("convolution %s: %s (%s)", key, path, "measured" if measured else "rule of thumb")
    return path


def forget_choices() -> None:
    """Read the table again at the next convolution."""
    choose.cache_clear()
    read_table.cache_clear()


@contextmanager
def use_path(name: str) -> Iterator[None]:
    """Take this path for every convolution on CUDA in the block: for tests and benchmarks."""
    global _forced
    if name not in PATHS:
        raise ValueError(f"use_path: {name!r}; expected one of {', '.join(PATHS)}")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def _go_together(input: Sequence[int], weight: Sequence[int], window: ConvWindow, grad: Sequence[int] | None) -> bool:
    stride, padding, dilation, groups = window
    if not (len(input) == len(weight) == 4 and len(stride) == len(padding) == len(dilation) == 2):
        return False
    if groups < 1 or min(*stride, *dilation, *weight[2:]) < 1 or min(padding) < 0:
        return False
    size = window.output_size(input, weight)
    fits = input[1] == weight[1] * groups and weight[0] % groups == 0 and min(size) > 0
    return fits and (grad is None or list(grad) == [input[0], weight[0], *size])


def pick(
    operation: str,
    first: Tensor,
    second: Tensor,
    *,
    input: Sequence[int],
    weight: Sequence[int],
    window: ConvWindow,
) -> str:
    """The path for operands ``first`` (of the gradients: grad) and ``second``, of these sizes of input and weight."""
    grad = None if operation == "output" else first.shape
    same = first.dtype == second.dtype and first.device == second.device and first.dtype in PRECISIONS
    if not same or not _go_together(input, weight, window, grad):
        return "ours_nchw"  # its checks raise an error that says what came and what was expected
    if _forced is not None:
        return _forced
    if os.environ.get("CAFFE_COMPAT_EXACT") == "1":
        return "caffe"
    return choose(
        torch.cuda.get_device_name(first.device),
        operation,
        precision_name(first.dtype),
        channels_last=memory_format(first) == torch.channels_last,
        input=tuple(input),
        weight=tuple(weight),
        window=window,
    )


def conv_on_cuda(
    input: Tensor, weight: Tensor, bias: Tensor | None, window: ConvWindow, *, relu: bool = False
) -> Tensor:
    """``torch.ops.caffe_compat.conv`` on CUDA, and with ``relu`` ``conv_relu``; the result has input's layout."""
    path = pick("output", input, weight, input=input.shape, weight=weight.shape, window=window)
    if bias is not None and (
        bias.shape != weight.shape[:1] or bias.dtype != input.dtype or bias.device != input.device
    ):
        path = "ours_nchw"
    with switched(tf32=precision() != "fp32"):
        output = PATHS[path].output(input, weight, bias, window, relu)
    return output.contiguous(memory_format=memory_format(input))


def conv_input_grad_on_cuda(grad: Tensor, weight: Tensor, size: tuple[int, int], window: ConvWindow) -> Tensor:
    """``torch.ops.caffe_compat.conv_input_grad`` on CUDA for an input of (height, width) ``size``, in grad's layout."""
    input = (*grad.shape[:1], weight.shape[1] * window.groups if weight.dim() > 1 else 0, *size)
    path = PATHS[pick("input_grad", grad, weight, input=input, weight=weight.shape, window=window)]
    with switched(tf32=precision() != "fp32"):
        input_grad = path.input_grad(grad, weight, size, window)
    return input_grad.contiguous(memory_format=memory_format(grad))


def conv_weight_grad_on_cuda(grad: Tensor, input: Tensor, kernel: tuple[int, int], window: ConvWindow) -> Tensor:
    """``torch.ops.caffe_compat.conv_weight_grad`` on CUDA for a (height, width) ``kernel``; contiguous."""
    channels = input.shape[1] // window.groups if input.dim() > 1 and window.groups > 0 else 0
    weight = (*grad.shape[1:2], channels, *kernel)
    path = PATHS[pick("weight_grad", grad, input, input=input.shape, weight=weight, window=window)]
    with switched(tf32=precision() != "fp32"):
        return path.weight_grad(grad, input, kernel, window).contiguous()


def register() -> None:
    """Make this the CUDA side of the operators, whose arguments are flat."""

    def conv(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> Tensor:
        return conv_on_cuda(input, weight, bias, ConvWindow.from_arguments(*window))

    def conv_relu(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> Tensor:
        return conv_on_cuda(input, weight, bias, ConvWindow.from_arguments(*window), relu=True)

    def conv_input_grad(grad: Tensor, weight: Tensor, height: int, width: int, *window: Any) -> Tensor:
        return conv_input_grad_on_cuda(grad, weight, (height, width), ConvWindow.from_arguments(*window))

    def conv_weight_grad(grad: Tensor, input: Tensor, kernel_h: int, kernel_w: int, *window: Any) -> Tensor:
        return conv_weight_grad_on_cuda(grad, input, (kernel_h, kernel_w), ConvWindow.from_arguments(*window))

    for function in (conv, conv_relu, conv_input_grad, conv_weight_grad):
        torch.library.impl(f"caffe_compat::{function.__name__}", "cuda", function)
