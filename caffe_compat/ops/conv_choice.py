"""Which path computes a convolution on CUDA: a table measured on the machine, or a rule of thumb.

``caffe-compat tune`` times a net's whole training step with one path and another and writes the table, one section for
each GPU with its versions of PyTorch and cuDNN, to ``$CAFFE_COMPAT_CONV_TABLE`` or ``caffe_compat/conv_table.json``
under the user's cache folder.  It is read at the first convolution on CUDA; a section of other versions does not count.
For what the table does not have (measured on an H200, docs/benchmarks.md):

- one group: cuDNN; in float32, channels_last, with up to 3 x 3 taps its TF32 products of split numbers, which are as
  accurate, for the output and the input's gradient;
- several groups: a dense cuDNN convolution for each;
- float64: cuDNN.

Our own kernels are among the alternatives that ``caffe-compat tune`` tries, and takes where they are right and faster.

A Convolution layer with ``engine: DEFAULT`` asks here only when there is a table for its GPU (``is_tuned``), or inside
a tower (``net/tower.py``); else it takes cuDNN.

float32 is computed as ``caffe_compat.precision`` says, on every path and in both passes.
``CAFFE_COMPAT_EXACT=1`` takes Caffe's own im2col and matrix products everywhere.  Each choice is logged once.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError
from caffe_compat.ops.conv_paths import PATHS, memory_format
from caffe_compat.ops.conv_paths import Path as ConvPath
from caffe_compat.ops.conv_window import ConvWindow
from caffe_compat.precision import precision, switched

log = logging.getLogger(__name__)

OPERATIONS = ("output", "input_grad", "weight_grad")
TABLE_VARIABLE = "CAFFE_COMPAT_CONV_TABLE"
PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64", torch.float32: "fp32"}
#: taps of a kernel up to which splitting float32 into TF32 is faster than cuDNN's float32 (5 x 5 has FFTs there)
MOST_SPLIT_TAPS = 9
_forced: str | None = None
_tried: dict[str, str] = {}
_chosen: dict[str, str] = {}


def table_path() -> Path:
    """Where the table is read from and written to."""
    if named := os.environ.get(TABLE_VARIABLE):
        return Path(named)
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_folder) / "caffe_compat" / "conv_table.json"


@cache
def read_table() -> dict[str, dict[str, str]]:
    """{device name: {key: path}}, of the versions in use; empty when there is no table.

    CaffeCompatError for a broken one.
    """
    path = table_path()
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text())
        table = {
            device: {key: entry["path"] for key, entry in rows.items()} for device, rows in document["devices"].items()
        }
        machines = document.get("versions", {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaffeCompatError(f"{path}: not a convolution table ({error!r}); run caffe-compat tune") from error
    for device, rows in table.items():
        for key, name in rows.items():
            if name not in PATHS:
                raise CaffeCompatError(
                    f"{path}: {device}, {key}: path is {name!r}; expected one of {', '.join(PATHS)}; "
                    "run caffe-compat tune again"
                )
    for device in [device for device in table if machines.get(device) != versions()]:
        log.warning(
            "%s: %s was tuned with %s, this is %s: not used; run caffe-compat tune again",
            path,
            device,
            machines.get(device, "unknown versions"),
            versions(),
        )
        del table[device]
    return table


def is_exact() -> bool:
    """Whether ``CAFFE_COMPAT_EXACT=1`` asks for Caffe's own products."""
    return os.environ.get("CAFFE_COMPAT_EXACT") == "1"


def versions() -> str:
    """Of PyTorch and cuDNN, as in the table: ``torch 2.11.0+cu130, cuDNN 91900``."""
    return f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version() or 'none'}"


def is_tuned(device: torch.device) -> bool:
    """Whether there is a table for this CUDA device."""
    return device.type == "cuda" and torch.cuda.get_device_name(device) in read_table()


def describe(device: torch.device) -> str:
    """One line for a log: where the choices for this CUDA device come from."""
    choices = read_table().get(torch.cuda.get_device_name(device))
    if choices is not None:
        return f"Convolutions take the paths of {table_path()}, {len(choices)} of them tuned, else by rule of thumb"
    missing = "" if table_path().exists() else f" (no {table_path()})"
    return f"Convolutions take their paths by rule of thumb{missing}; `caffe-compat tune` measures them on this GPU"


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


def read_key(key: str) -> tuple[tuple[int, ...], tuple[int, ...], ConvWindow]:
    """(sizes of input, sizes of weight, window) of a ``table_key``."""
    *_, input, weight, stride, padding, dilation, groups = key.split()

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split("x"))

    window = ConvWindow(numbers(stride[1:]), numbers(padding[1:]), numbers(dilation[1:]), int(groups[1:]))
    return numbers(input), numbers(weight), window


def rule_of_thumb(operation: str, number_type: str, *, channels_last: bool, weight: Sequence[int], groups: int) -> str:
    """The path for sizes that are not in the table; see the head of this file."""
    if number_type == "fp64":
        return "cudnn"
    if groups > 1:
        return "cudnn_split"
    whole = weight[0] % 4 == weight[1] % 4 == 0  # 16 bytes
    small = number_type == "fp32" and weight[2] * weight[3] <= MOST_SPLIT_TAPS
    return "split_tf32" if small and whole and channels_last and operation != "weight_grad" else "cudnn"


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
    measured = _tried.get(key) or read_table().get(device, {}).get(key)
    path = measured or rule_of_thumb(
        operation, number_type, channels_last=channels_last, weight=weight, groups=window.groups
    )
    log.debug("convolution %s: %s (%s)", key, path, "measured" if measured else "rule of thumb")
    _chosen[key] = path
    return path


def forget_choices() -> None:
    """Read the table again at the next convolution."""
    choose.cache_clear()
    read_table.cache_clear()
    _chosen.clear()


def chosen() -> dict[str, str]:
    """{key: path} of all choices since the last ``forget_choices``."""
    return dict(_chosen)


@contextmanager
def trying(choices: Mapping[str, str]) -> Iterator[None]:
    """Take these paths by key in the block, before table and rule of thumb: for tuning."""
    global _tried
    before, _tried = _tried, dict(choices)
    choose.cache_clear()
    try:
        yield
    finally:
        _tried = before
        choose.cache_clear()


def alternatives(key: str) -> list[str]:
    """The paths that may compute what a key of the table describes."""
    number_type = key.split()[1]
    _, (outputs, channels, *taps), window = read_key(key)
    per_access = {"fp16": 8, "bf16": 8}.get(number_type, 4)
    whole = channels % per_access == 0 and outputs // window.groups % per_access == 0
    paths = ["cudnn"]
    if window.groups > 1:
        paths.append("cudnn_split")
    if whole and number_type != "fp64":
        paths.append("ours_nhwc")
    if number_type == "fp32" and taps != [1, 1]:
        paths.append("split_tf32")
    return paths


def write_choices(device: str, choices: Mapping[str, str], step: Mapping[str, float]) -> None:
    """Put choices by key into the table's section of ``device``, beside those of other nets; ``step``: what was
    measured with them, for the reader of the file.  A section of other versions is begun anew."""
    path = table_path()
    document: dict[str, Any] = {}
    if path.exists():
        read_table.cache_clear()
        read_table()  # a broken file is not written over
        document = json.loads(path.read_text())
    versions_of = document.setdefault("versions", {})
    devices = document.setdefault("devices", {})
    if versions_of.get(device) != versions():
        devices[device] = {}
    versions_of[device] = versions()
    devices.setdefault(device, {}).update({key: {"path": name, **step} for key, name in choices.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(document, indent=1) + "\n")
    forget_choices()


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
    if is_exact():
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


def path_of(
    operation: str, first: Tensor, *, input: Sequence[int], weight: Sequence[int], window: ConvWindow
) -> ConvPath:
    """The path for operands that are known to go together, of which ``first`` is dense in channels_last.

    Tensors without memory (the meta device) take what the rule of thumb says.
    """
    device = torch.cuda.get_device_name(first.device) if first.is_cuda else first.device.type
    name = _forced or choose(
        device,
        operation,
        precision_name(first.dtype),
        channels_last=True,
        input=tuple(input),
        weight=tuple(weight),
        window=window,
    )
    return PATHS[name]


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
