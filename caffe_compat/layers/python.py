"""Python: a layer written by the user against pycaffe's blobs.

    class Double(caffe.Layer):  # caffe_compat.pycaffe, or any class with these methods
        def setup(self, bottom, top): ...
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):
            top[0].data[...] = 2 * bottom[0].data
        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[...] = 2 * top[0].diff

    layer { type: "Python" ... python_param { module: "mine" layer: "Double" param_str: "..." } }

Such a layer is code that a file names, so that a net has to be built with ``allow_python_layers``.  For new code, a
``Layer`` of your own with ``@register`` is simpler and runs on the GPU.
"""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_compat.errors import NetError, reason
from caffe_compat.layers.base import Layer, LayerContext, Shape
from caffe_compat.layers.registry import register
from caffe_compat.proto import caffe_pb2

Array = npt.NDArray[Any]

#: what makes a class a layer; without ``backward`` it can still run forward
_METHODS = ("setup", "reshape", "forward")


class PythonBlob:
    """A blob as pycaffe shows it to a layer: ``data`` and ``diff`` are NumPy arrays of ``shape``."""

    def __init__(self, shape: Sequence[int] = (), dtype: npt.DTypeLike = np.float32, data: Array | None = None) -> None:
        self.data: Array = np.zeros(tuple(shape), dtype) if data is None else data
        self._diff: Array | None = None

    @property
    def diff(self) -> Array:
        """The gradient, zeros at first."""
        if self._diff is None or self._diff.shape != self.data.shape:
            self._diff = np.zeros_like(self.data)
        return self._diff

    def reshape(self, *shape: int) -> None:
        """Set the shape; the values are zeros after a change."""
        if tuple(shape) != self.data.shape:
            self.data, self._diff = np.zeros(shape, self.data.dtype), None

    @property
    def shape(self) -> Shape:
        return self.data.shape

    @property
    def count(self) -> int:
        return self.data.size

    @property
    def num(self) -> int:
        return self._legacy_axis(0)

    @property
    def channels(self) -> int:
        return self._legacy_axis(1)

    @property
    def height(self) -> int:
        return self._legacy_axis(2)

    @property
    def width(self) -> int:
        return self._legacy_axis(3)

    def _legacy_axis(self, axis: int) -> int:
        if len(self.shape) > 4:
            raise ValueError(f"num, channels, height, width of a blob of shape {self.shape}; use shape beyond 4 axes")
        return self.shape[axis] if axis < len(self.shape) else 1


class BlobList(list[PythonBlob]):
    """A user layer's parameters, made in its ``setup``."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        super().__init__()
        self._dtype = dtype

    def add_blob(self, *shape: int) -> None:
        """Append a parameter of zeros."""
        self.append(PythonBlob(shape, self._dtype))


class UserLayer:
    """Base for users' layers (pycaffe's ``caffe.Layer``); ``setup``, ``reshape``, ``forward`` and
    ``backward`` are theirs to write.

    Attributes: ``param_str``; ``phase``, 0 for TRAIN and 1 for TEST (``net.train()`` and ``net.eval()`` set it, too);
    ``blobs``, the parameters;
    ``type``, "Python".
    """

    type = "Python"
    param_str: str
    phase: int
    blobs: BlobList

    def __init__(self, param: caffe_pb2.LayerParameter) -> None:
        """``param``: the LayerParameter message."""


class _Run(torch.autograd.Function):
    """The user's forward and backward as one operation on bottoms and parameters."""

    @staticmethod
    def forward(ctx: Any, layer: "Python", num_bottoms: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.layer, ctx.num_bottoms, ctx.like = layer, num_bottoms, [t.detach() for t in tensors]
        ctx.bottoms, ctx.tops = layer.run_forward(tensors[:num_bottoms])
        return tuple(layer.to_tensor(top.data, tensors[0] if tensors else None) for top in ctx.tops)

    @staticmethod
    def backward(ctx: Any, *top_diffs: Tensor) -> tuple[Tensor | None, ...]:
        diffs = ctx.layer.run_backward(ctx.bottoms, ctx.tops, top_diffs, ctx.needs_input_grad[2 : 2 + ctx.num_bottoms])
        grads = [
            ctx.layer.to_tensor(diff, like) if needed else None
            for diff, like, needed in zip(diffs, ctx.like, ctx.needs_input_grad[2:], strict=True)
        ]
        return (None, None, *grads)


def _copy(data: Array, tensor: Tensor) -> None:
    tensor.copy_(torch.from_numpy(data))


@register("Python")
class Python(Layer):
    """Runs an instance of ``python_param.layer`` from ``python_param.module`` on the CPU, in NumPy.

    Without bottoms it is a source of data.  ``bottom.data`` is read-only, unless the layer works in
    place; a parameter's ``diff`` is zero before each backward, and what it holds afterwards is added
    to the gradient.
    """

    param_fields = ("python_param",)
    bottom_count = (0, None)
    top_count = (0, None)
    graph_obstacle = "runs Python code on the host"

    def __init__(self, param: caffe_pb2.LayerParameter, context: LayerContext | None = None) -> None:
        super().__init__(param, context)
        self.is_source = not param.bottom  # type: ignore[misc]
        self._in_place = [list(param.bottom).index(top) if top in param.bottom else None for top in param.top]

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.python_param
        if param.share_in_parallel:
            self.warn("python_param.share_in_parallel has no effect: every process has its own layer")
        self._dtype = np.float64 if self.context.dtype == torch.float64 else np.float32
        self.user = self._user_class()(self.param)
        self.user.param_str = param.param_str
        self.user.phase = 0 if self.training else 1
        self.user.blobs = BlobList(self._dtype)
        self._tops = [PythonBlob((), self._dtype) for _ in self.param.top]
        self.user.setup([PythonBlob(shape, self._dtype) for shape in bottoms], self._tops)
        for i, blob in enumerate(self.user.blobs):
            self.add_blob(f"blob{i}", blob.shape, partial(_copy, blob.data))

    def train(self, mode: bool = True) -> Self:
        """As in ``nn.Module``; the user's layer learns of it by its ``phase``."""
        super().train(mode)
        self.user.phase = 0 if mode else 1
        return self

    def _user_class(self) -> Any:
        """The class that the file names; NetError before anything of its module runs where that is not allowed."""
        param = self.param.python_param
        if not self.context.allow_python_layers:
            self.fail(
                f'would import module "{param.module}" and run its "{param.layer}", which can do whatever you can; '
                "where you trust them, say --allow-python-layers or allow_python_layers=True"
            )
        try:
            module = import_module(param.module)
        except ImportError as error:
            self.fail(
                f'python_param.module "{param.module}" cannot be imported: {error} (looked in {", ".join(sys.path)}; '
                "a module that imports caffe needs `import caffe_compat.pycaffe as caffe` instead)"
            )
        except Exception as error:  # whatever the user's module raises, its traceback stays behind ours
            raise NetError(
                f'{self.where()}: python_param.module "{param.module}" cannot be imported: '
                f"{type(error).__name__}: {reason(error)}"
            ) from error
        found = getattr(module, param.layer, None)
        if not isinstance(found, type):
            self.fail(f'python_param.layer: module "{param.module}" has no class "{param.layer}"')
        missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
        if missing:
            self.fail(
                f'python_param.layer: "{param.layer}" of module "{param.module}" is no layer: it lacks '
                f"{', '.join(missing)}; expected a class with {', '.join(_METHODS)}"
            )
        return found

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        return self._reshape([PythonBlob(shape, self._dtype) for shape in bottoms])

    def _reshape(self, bottoms: list[PythonBlob]) -> list[Shape]:
        for i, source in enumerate(self._in_place):
            if source is not None:
                self._tops[i] = bottoms[source]
        self.user.reshape(bottoms, self._tops)
        return [top.shape for top in self._tops]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        # Not as a decorator: that would load torch._dynamo, two seconds for every program.
        run = torch.compiler.disable(_Run.apply)
        result: tuple[Tensor, ...] = run(self, len(bottoms), *bottoms, *self.blobs)
        return result

    def next_batch(self) -> tuple[Tensor, ...]:
        """Sources only: what the user's ``forward`` puts into the tops."""
        _, tops = self.run_forward(())
        return tuple(self.to_tensor(top.data, None) for top in tops)

    def run_forward(self, bottoms: Sequence[Tensor]) -> tuple[list[PythonBlob], list[PythonBlob]]:
        """The user's reshape and forward; returns the blobs that they saw."""
        blobs = [PythonBlob(data=self._view(i, bottom)) for i, bottom in enumerate(bottoms)]
        self._load_parameters()
        self._tops = [PythonBlob(top.shape, self._dtype) for top in self._tops]
        self._reshape(blobs)
        self.user.forward(blobs, self._tops)
        self._store_parameters()
        return blobs, self._tops

    def run_backward(
        self,
        bottoms: list[PythonBlob],
        tops: list[PythonBlob],
        top_diffs: Sequence[Tensor],
        propagate_down: Sequence[bool],
    ) -> list[Array]:
        """The user's backward; returns the gradients of bottoms and parameters."""
        for top, diff in zip(tops, top_diffs, strict=True):
            top.diff[...] = diff.detach().cpu().numpy()
        self._load_parameters()
        for blob in self.user.blobs:
            blob.diff[...] = 0
        self.user.backward(tops, list(propagate_down), bottoms)
        return [blob.diff for blob in (*bottoms, *self.user.blobs)]

    def _view(self, index: int, bottom: Tensor) -> Array:
        data = bottom.detach().cpu().contiguous().numpy()
        if index in self._in_place:
            return data.copy()
        data = data.view()
        data.flags.writeable = False
        return data

    def _load_parameters(self) -> None:
        # On the CPU these arrays are the parameters' own memory.
        for blob, parameter in zip(self.user.blobs, self.blobs, strict=True):
            blob.data = parameter.detach().cpu().numpy()

    @torch.no_grad()
    def _store_parameters(self) -> None:
        for blob, parameter in zip(self.user.blobs, self.blobs, strict=True):
            if parameter.device.type != "cpu":
                parameter.copy_(torch.from_numpy(blob.data))

    def to_tensor(self, data: Array, like: Tensor | None) -> Tensor:
        """A copy of ``data`` on the device and of the dtype of ``like`` (default: the net's dtype, CPU)."""
        tensor = torch.from_numpy(np.array(data))
        return tensor.to(self.context.dtype) if like is None else tensor.to(like.device, like.dtype)
