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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_compat.errors import NetError, reason
from caffe_compat.layers.base import Layer, LayerContext, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.python_proposal import ProposalLayer
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

Array = npt.NDArray[Any]

#: layers that come with us, by module and class: code of ours, which needs no permission
BUILT_IN: dict[tuple[str, str], Any] = {("rpn.proposal_layer", "ProposalLayer"): ProposalLayer}

#: what makes a class a layer; without ``backward`` it can still run forward
_METHODS = ("setup", "reshape", "forward")


class NetBlob(Protocol):
    """What ``PythonBlob`` asks of a blob of a net that runs on blobs."""

    shape: Shape

    def host_data(self) -> Array: ...

    def host_diff(self) -> Array: ...

    def reshape(self, shape: Sequence[int]) -> None: ...


class PythonBlob:
    """A blob as pycaffe shows it: ``data`` and ``diff`` are NumPy arrays of ``shape``.

    It has arrays of its own until ``attach`` makes it a blob of a net.
    """

    def __init__(self, shape: Sequence[int] = (), dtype: npt.DTypeLike = np.float32, data: Array | None = None) -> None:
        self._data: Array = np.zeros(tuple(shape), dtype) if data is None else data
        self._diff: Array | None = None
        self._blob: NetBlob | None = None

    def attach(self, blob: NetBlob, *, copy: bool = False) -> None:
        """From now on be ``blob``; with ``copy`` it gets the values so far, where they are of its shape."""
        if copy and self._blob is None and self._data.shape == blob.shape and self._data.any():
            blob.host_data()[...] = self._data
        self._blob = blob

    @property
    def data(self) -> Array:
        """The values; what is written there counts."""
        return self._data if self._blob is None else self._blob.host_data()

    @property
    def diff(self) -> Array:
        """The gradient, zeros at first."""
        if self._blob is not None:
            return self._blob.host_diff()
        if self._diff is None or self._diff.shape != self._data.shape:
            self._diff = np.zeros_like(self._data)
        return self._diff

    def reshape(self, *shape: int) -> None:
        """Set the shape.  A net's blob keeps its memory while it is large enough; other values are zeros then."""
        if self._blob is not None:
            self._blob.reshape(shape)
        elif tuple(shape) != self._data.shape:
            self._data, self._diff = np.zeros(shape, self._data.dtype), None

    @property
    def shape(self) -> Shape:
        return self._data.shape if self._blob is None else self._blob.shape

    @property
    def count(self) -> int:
        return count(self.shape)

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
    """A layer's parameters; a user's layer makes them in its ``setup``."""

    def __init__(self, blobs: Iterable[PythonBlob] = (), dtype: npt.DTypeLike = np.float32) -> None:
        super().__init__(blobs)
        self._dtype = dtype

    def add_blob(self, *shape: int) -> None:
        """Append a parameter of zeros."""
        self.append(PythonBlob(shape, self._dtype))


class LayerPhase(int):
    """0 or 1 as in Caffe 1.0, written as TRAIN or TEST: py-faster-rcnn looks up its settings by ``str(self.phase)``."""

    def __str__(self) -> str:
        return caffe_pb2.Phase.Name(int(self))


class UserLayer:
    """Base for users' layers (pycaffe's ``caffe.Layer``); ``setup``, ``reshape``, ``forward`` and
    ``backward`` are theirs to write.

    Attributes: ``param_str``, also by its name of 2015, ``param_str_``; ``phase``, 0 for TRAIN and 1 for TEST
    (``net.train()`` and ``net.eval()`` set it, too), whose ``str`` is the word; ``blobs``, the parameters;
    ``type``, "Python".
    """

    type = "Python"
    param_str: str
    phase: int
    blobs: BlobList

    def __init__(self, param: caffe_pb2.LayerParameter) -> None:
        """``param``: the LayerParameter message."""

    @property
    def param_str_(self) -> str:
        """``param_str`` as Caffe called it until August 2015."""
        return self.param_str

    def setup(self, bottom: list[PythonBlob], top: list[PythonBlob]) -> None:
        """Called once, when the net is built."""

    def reshape(self, bottom: list[PythonBlob], top: list[PythonBlob]) -> None:
        """Called before each forward: give the tops their shapes."""


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


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def _copy(data: Array, tensor: Tensor) -> None:
    tensor.copy_(torch.from_numpy(data))


@register("Python")
class Python(Layer):
    """Runs an instance of ``python_param.layer`` from ``python_param.module`` on the CPU, in NumPy.

    py-faster-rcnn's ``rpn.proposal_layer`` is built in.

    Without bottoms it is a source of data.  ``bottom.data`` is read-only, unless the layer works in
    place; a parameter's ``diff`` is zero before each backward, and what it holds afterwards is added
    to the gradient.
    """

    param_fields = ("python_param",)
    onnx_obstacle = "it is code of yours; give its class a method to_onnx(graph, step), as a layer has"
    onnx_float32 = True
    bottom_count = (0, None)
    top_count = (0, None)
    graph_obstacle = "runs Python code on the host"
    runs_on_blobs = True

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
        self.user.phase = LayerPhase(0 if self.training else 1)
        self.user.blobs = BlobList(dtype=self._dtype)
        # The user's layer may keep these: with attach_blobs they become the net's.
        self._bottoms = [PythonBlob(shape, self._dtype) for shape in bottoms]
        self._tops = [
            PythonBlob((), self._dtype) if source is None else self._bottoms[source] for source in self._in_place
        ]
        self._attached = False
        self.user.setup(self._bottoms, self._tops)
        for i, blob in enumerate(self.user.blobs):
            self.add_blob(f"blob{i}", blob.shape, partial(_copy, blob.data))

    def train(self, mode: bool = True) -> Self:
        """As in ``nn.Module``; the user's layer learns of it by its ``phase``."""
        super().train(mode)
        self.user.phase = LayerPhase(0 if mode else 1)
        return self

    def _user_class(self) -> Any:
        """The class that the file names; NetError before anything of its module runs where that is not allowed.

        One that comes with us is ours, unless the user allows modules and has one of that name.
        """
        param = self.param.python_param
        built_in = BUILT_IN.get((param.module, param.layer))
        if built_in is not None and not (self.context.allow_python_layers and _is_there(param.module)):
            return built_in
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

    def has_onnx_form(self) -> bool:
        return hasattr(self.user, "to_onnx")

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        tops: list[str] = self.user.to_onnx(graph, step)
        return tops[: self.num_tops]

    def data_sized(self) -> dict[int, int]:
        sized = self.user.data_sized() if hasattr(self.user, "data_sized") else {}
        return {top: axis for top, axis in sized.items() if top < self.num_tops}

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        blobs, tops = self._bottoms, self._tops
        if self._attached:
            blobs = [PythonBlob(shape, self._dtype) for shape in bottoms]
            tops = self._reshaped_tops(blobs)
        else:
            for blob, shape in zip(blobs, bottoms, strict=True):
                blob.reshape(*shape)
            self.user.reshape(blobs, tops)
        return [top.shape for top in tops]

    def _reshaped_tops(self, bottoms: list[PythonBlob]) -> list[PythonBlob]:
        tops = [
            PythonBlob(top.shape, self._dtype) if source is None else bottoms[source]
            for top, source in zip(self._tops, self._in_place, strict=True)
        ]
        self.user.reshape(bottoms, tops)
        return tops

    # -- on a net's blobs, as in Caffe ----------------------------------------------------

    def attach_blobs(self, bottoms: Sequence[NetBlob], tops: Sequence[NetBlob], params: Sequence[NetBlob]) -> None:
        for own, blobs in ((self._bottoms, bottoms), (self._tops, tops), (self.user.blobs, params)):
            for blob, target in zip(own, blobs, strict=True):
                blob.attach(target, copy=own is self._tops)
        self._attached = True

    def reshape_blobs(self) -> None:
        self.user.reshape(self._bottoms, self._tops)

    def forward_blobs(self) -> None:
        self.user.forward(self._bottoms, self._tops)

    def backward_blobs(self, propagate_down: Sequence[bool]) -> None:
        self.user.backward(self._tops, list(propagate_down), self._bottoms)

    # -- as a module ----------------------------------------------------------------------

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
        with self._own_parameters():
            tops = self._reshaped_tops(blobs)
            self.user.forward(blobs, tops)
        return blobs, tops

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
        with self._own_parameters() as parameters:
            self.user.backward(tops, list(propagate_down), bottoms)
        return [blob.diff for blob in (*bottoms, *parameters)]

    def _view(self, index: int, bottom: Tensor) -> Array:
        data = bottom.detach().cpu().contiguous().numpy()
        if index in self._in_place:
            return data.copy()
        data = data.view()
        data.flags.writeable = False
        return data

    @contextmanager
    def _own_parameters(self) -> Iterator["BlobList"]:
        """Let the user's layer have blobs over our parameters, with diffs of zeros."""
        before = self.user.blobs
        # On the CPU these arrays are the parameters' own memory.
        arrays = [parameter.detach().cpu().numpy() for parameter in self.blobs]
        own = BlobList((PythonBlob(data=array) for array in arrays), self._dtype)
        self.user.blobs = own
        try:
            yield own
        finally:
            self.user.blobs = before
        with torch.no_grad():
            for blob, parameter in zip(own, self.blobs, strict=True):
                if parameter.device.type != "cpu":
                    parameter.copy_(torch.from_numpy(blob.data))

    def to_tensor(self, data: Array, like: Tensor | None) -> Tensor:
        """A copy of ``data`` on the device and of the dtype of ``like`` (default: the net's dtype, CPU)."""
        tensor = torch.from_numpy(np.array(data))
        return tensor.to(self.context.dtype) if like is None else tensor.to(like.device, like.dtype)
