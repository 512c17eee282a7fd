"""The life of a layer: construct, setup (parameters), infer_shapes, forward.

N C H W in shape comments: batch, channels, height, width.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError, printable
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.memory import no_memory, shortage
from caffe_compat.proto import Source, caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

Shape = tuple[int, ...]

MAX_COUNT = 2**31 - 1  # values of a blob: Caffe counts with int


@dataclass
class LayerContext:
    """What a layer may know of the net around it."""

    phase: str = "TRAIN"  # "TRAIN" or "TEST"
    source: Source = field(default_factory=Source)  # the file that the net came from, for error texts
    solver_rank: int = 0  # this process among ``solver_count`` that share the data
    solver_count: int = 1
    dtype: torch.dtype = field(default=torch.float32)  # of parameters and of data read
    skip_bad_records: int = 0  # how many unreadable records a data layer may pass over
    allow_python_layers: bool = False  # Python layers are code that the file names
    shapes_only: bool = False  # parameters have shapes but neither memory nor values (torch's meta device)


@dataclass(frozen=True)
class SharedMemory:
    """All tops of a layer are views of one blob's memory, as in Caffe: of bottom 0, or of parameter 0.

    ``since``: from when on, the layer's reshape or its forward.
    ``diff``: the gradients are ``"shared"``, too; from the ``"backward"`` pass on; or those of the tops are ``"added"``
    up into the bottom's.
    """

    of_parameter: bool = False
    since: Literal["reshape", "forward"] = "reshape"
    diff: Literal["shared", "backward", "added"] = "shared"


class Layer(nn.Module):
    """Base of all layers.  A subclass sets the class variables that differ, and implements
    ``infer_shapes`` and ``forward``; one with parameters also implements ``setup``.

    The gradient comes from autograd; where Caffe's differs from PyTorch's, the layer's
    ``forward`` goes through a ``torch.autograd.Function`` of its own.

    Whatever else the package wants to know of a type stands in its class, too: ``graph_safe``, ``shared_memory``,
    ``index_limits``, ``flops``, ``to_onnx``, ``data_sized``, ``differs_from_opencv``, ``deploy_form``,
    ``drawing_kind``, ``drawing_details``, ``example``.
    """

    type: ClassVar[str] = ""  # type: ignore[assignment]  # nn.Module.type() is of no use to a layer
    #: the ``*_param`` messages of LayerParameter that this type reads; others draw a warning.  A type that names a
    #: message of a fork answers for all its fields: what it does not read, it refuses
    param_fields: ClassVar[tuple[str, ...]] = ()
    #: fields of forks (proto/forks.proto, ``--schema``) in Caffe's messages that this type reads, as
    #: ``pooling_param.ceil_mode``, and enum values, as ``loss_param.normalization: PRE_FIXED``; others are refused
    fork_fields: ClassVar[tuple[str, ...]] = ()
    #: (least, most) bottoms and tops; None means no upper limit
    bottom_count: ClassVar[tuple[int, int | None]] = (1, 1)
    top_count: ClassVar[tuple[int, int | None]] = (1, 1)
    #: as many tops as bottoms
    equal_counts: ClassVar[bool] = False
    #: loss layers: a missing top is made up, and the first top has loss_weight 1
    is_loss: ClassVar[bool] = False
    #: data and input layers: no bottoms; ``next_batch`` yields the tops
    is_source: ClassVar[bool] = False
    #: layers that Caffe cannot differentiate (Accuracy, ArgMax, Threshold, ...)
    has_backward: ClassVar[bool] = True
    #: how long the tops are, only the data tells: ``infer_shapes`` gives what Caffe's Reshape does before a forward
    tops_depend_on_data: ClassVar[bool] = False
    #: bottoms that never receive a gradient (labels)
    no_gradient_bottoms: ClassVar[tuple[int, ...]] = ()
    #: those of them that force_backward asks for all the same, so that backward refuses, as in Caffe
    forced_bottoms: ClassVar[tuple[int, ...]] = ()
    #: fields (``data_param.prefetch``) that change neither what a source reads nor in which order
    state_ignores: ClassVar[tuple[str, ...]] = ()
    #: buffers whose values follow from fields or their files, so that no snapshot brings them back
    constant_buffers: ClassVar[tuple[str, ...]] = ()
    #: a source whose tops the caller of the net writes
    is_input: ClassVar[bool] = False
    #: writes files when it runs: commands that only look at a net leave it out
    writes_files: ClassVar[bool] = False
    #: what Caffe's forward keeps beside the blobs (a mask, probabilities, an average) is what its backward reads
    keeps_forward: bool = False
    #: bottoms that Caffe's backward reads all the same (labels)
    reads_again: ClassVar[tuple[int, ...]] = ()
    #: works on a net's blobs themselves, as Caffe's layers do: ``attach_blobs`` and the methods behind it
    runs_on_blobs: ClassVar[bool] = False
    #: hands one blob to several readers; tables and comparisons of layers leave it out
    is_split: ClassVar[bool] = False
    #: whether forward and backward can be recorded as a CUDA graph: no work on the host that changes from pass to
    #: pass, no look at values on the device.  Not inherited: each class says it of itself.
    graph_safe: ClassVar[bool] = False
    #: why not, for the log
    graph_obstacle: ClassVar[str] = "is of a class that does not say graph_safe = True"
    #: why a type has no ONNX form, for the error; for a type that is meant to have none (a loss) nothing
    onnx_obstacle: ClassVar[str] = ""
    #: computes with float32 in an ONNX file of float16, too: coordinates, sums of squares
    onnx_float32: ClassVar[bool] = False
    #: what the layer does, as `caffe-compat draw` colours it: weights, shape, loss or other (sources tell themselves)
    drawing_kind: ClassVar[str] = "other"

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.graph_safe = bool(vars(cls).get("graph_safe", False))

    def __init__(self, param: caffe_pb2.LayerParameter, context: LayerContext | None = None) -> None:
        """``param``: the layer's (upgraded) message."""
        super().__init__()
        self.param = param
        self.name: str = param.name
        # Messages cannot be read under torch.compile: forward uses plain attributes.
        self.num_tops = len(param.top)
        self.context = context or LayerContext()
        self.phase = self.context.phase
        # The mode to begin with; .train() and .eval() change it, and forward asks for it.
        self.training = self.phase == "TRAIN"
        self._blob_names: list[str] = []
        self._blob_shapes: list[Shape] = []

    # -- what subclasses implement ------------------------------------------------------

    # Called with one Shape per bottom; subclasses name them, hence the open signatures.

    def setup(self, *bottom_shapes: Any, **_: Any) -> None:
        """Check the fields and create parameters with ``add_blob``; called once."""

    def infer_shapes(self, *bottom_shapes: Any, **_: Any) -> list[Shape]:
        """Top shapes for these bottom shapes; raises NetError (``self.fail``) like Caffe."""
        raise TypeError(f"{type(self).__name__} lacks infer_shapes")

    # forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...] is nn.Module's

    # -- what other rooms ask -----------------------------------------------------------

    def shared_memory(self, need_backward: bool) -> SharedMemory | None:
        """How the tops share another blob's memory in Caffe; None where they have their own.

        The values of the tops are then those of the blob itself.  ``need_backward``: whether this layer has a backward
        pass in its net.
        """
        return None

    def gradient_now(self, bottom: Tensor, top: Tensor, top_diff: Tensor, kept: Tensor) -> Tensor:
        """The bottom's gradient by Caffe's formula, over the blobs as they are now (and the bottom of the last
        forward, ``kept``); only for one bottom and one top.  Types without it go by autograd."""
        raise TypeError(f"{type(self).__name__} has no formula for its gradient")

    def has_gradient_now(self) -> bool:
        """Whether this type has ``gradient_now``."""
        return type(self).gradient_now is not Layer.gradient_now

    def deconvolved(self, bottom: Tensor, top_diff: Tensor, *, guided: bool) -> Tensor | None:
        """The bottom's diff in a deconvnet (Zeiler and Fergus 2014), or in ``guided`` backpropagation (Springenberg et
        al. 2015); None where both are the layer's own backward."""
        return None

    def attach_blobs(self, bottoms: Sequence[Any], tops: Sequence[Any], params: Sequence[Any]) -> None:
        """``runs_on_blobs`` only: the blobs that the methods below read and write."""
        raise TypeError(f"{type(self).__name__} does not run on blobs")

    def reshape_blobs(self) -> None:
        """``runs_on_blobs`` only: shape the tops."""

    def forward_blobs(self) -> None:
        """``runs_on_blobs`` only: compute the tops."""

    def backward_blobs(self, propagate_down: Sequence[bool]) -> None:
        """``runs_on_blobs`` only: compute the bottoms' diffs and add to the parameters'."""

    def index_limits(self, *bottom_shapes: Any, **_: Any) -> dict[int, int]:
        """Bottoms that hold whole numbers (labels, rows of a table, flags): {bottom: the first number too large}."""
        return {}

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        """Multiplications and additions of the forward pass; 0 where they are no matrix products and add little."""
        return 0

    def channel_form(self, *bottom_shapes: Any, **_: Any) -> ChannelForm | None:
        """What the layer does in its present mode, where that is the same for all numbers of a channel; else None.

        For nets that only run forward (``Net.for_inference``).  Tensors are float64 copies of the parameters.
        """
        return None

    def is_identity(self) -> bool:
        """Whether the tops are the bottom's own values in the present mode, in its own shape."""
        return False

    def has_onnx_form(self) -> bool:
        """Whether ``to_onnx`` is implemented; a layer may still refuse, by its fields."""
        return type(self).to_onnx is not Layer.to_onnx

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        """Add the layer to an ONNX graph in its TEST form; returns the names of its tops' values (docs/onnx.md).

        A type that does not implement this has no ONNX form; a layer that has none (``self.fail``) raises NetError.
        """
        self.fail(f"{self.type} has no ONNX form{f': {self.onnx_obstacle}' if self.onnx_obstacle else ''}")

    def data_sized(self) -> dict[int, int]:
        """Tops with as many rows as the data give (kept items, boxes found): {top: the axis of the rows}."""
        return {}

    def differs_from_opencv(self) -> str:
        """What OpenCV 4's reader of Caffe's nets computed otherwise for this layer, for its users; nothing where the
        numbers are the same, or it did not read such a layer."""
        return ""

    def deploy_form(self) -> caffe_pb2.LayerParameter | None:
        """The layer in a net that is deployed: its own message, another layer's in its place (SoftmaxWithLoss: a
        Softmax), or None where such a net has none (losses, and what writes files).  Sources become Input layers."""
        return None if self.is_loss or self.writes_files else self.param

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        """Lines that `caffe-compat draw` puts under the name of a layer with this LayerParameter."""
        return []

    @classmethod
    def example(cls, dice: Dice) -> Example:
        """A random valid layer of this type with bottoms; by default one without fields on a bottom of any shape."""
        return Example("", [dice.normal(*dice.shape())])

    # -- parameters ("blobs" in Caffe) --------------------------------------------------

    def add_blob(
        self,
        name: str,
        shape: Sequence[int],
        fill: Callable[[Tensor], object] | None = None,
        trainable: bool = True,
    ) -> None:
        """Append a parameter blob, zero-filled, then ``fill(tensor)`` in place.

        ``name`` is the attribute and state_dict name (``weight``, ``bias``, ...).  Blobs keep
        the order in which they are added, which is the order in a caffemodel.
        """
        self.check_count(f"parameter {name}", shape)
        shapes_only, described = self.context.shapes_only, f"parameter {name} of shape {tuple(shape)}"
        self.check_memory(described, count(shape) * self.context.dtype.itemsize)
        try:
            tensor = torch.zeros(tuple(shape), dtype=self.context.dtype, device="meta" if shapes_only else None)
            if fill is not None and not shapes_only:
                fill(tensor)
        except NetError as error:
            self.fail(f"{name}: {error}")
        except (MemoryError, RuntimeError) as error:
            self.fail_without_memory(error, described)
            raise
        self.register_parameter(name, nn.Parameter(tensor, requires_grad=trainable))
        self._blob_names.append(name)
        self._blob_shapes.append(tuple(shape))

    @property
    def blobs(self) -> list[nn.Parameter]:
        """Parameters in Caffe's order."""
        return [self._parameters[name] for name in self._blob_names]  # type: ignore[misc]

    @property
    def blob_names(self) -> list[str]:
        """Attribute names of ``blobs``."""
        return list(self._blob_names)

    @property
    def blob_shapes(self) -> list[Shape]:
        """The shapes this layer wants; a PERMISSIVE shared parameter may be stored otherwise."""
        return list(self._blob_shapes)

    def blob(self, index: int) -> Tensor:
        """Parameter ``index`` in this layer's own shape, for use in ``forward``."""
        tensor = self._parameters[self._blob_names[index]]
        assert tensor is not None
        shape = self._blob_shapes[index]
        return tensor if tensor.shape == shape else tensor.view(shape)

    def share_blob(self, index: int, owner: nn.Parameter) -> None:
        """Use ``owner`` (another layer's parameter) in place of our own blob ``index``."""
        self._parameters[self._blob_names[index]] = owner

    def resize_blob(self, index: int, shape: Sequence[int]) -> None:
        """Give parameter ``index`` another shape, and keep its leading values; for layers that can work with that."""
        parameter = self.blobs[index]
        values = torch.zeros(count(shape), dtype=parameter.dtype, device=parameter.device)
        kept = min(values.numel(), parameter.numel())
        values[:kept] = parameter.data.reshape(-1)[:kept]
        parameter.data, parameter.grad = values.view(tuple(shape)), None
        self._blob_shapes[index] = tuple(shape)

    def replaces_diff(self, index: int, *bottom_shapes: Shape) -> bool:
        """True where Caffe's backward overwrites the gradient of blob ``index`` instead of adding to it."""
        return False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """nn.Module's way to another device or dtype; no memory there names the layer."""
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        except (MemoryError, RuntimeError) as error:
            self.fail_without_memory(error, f"its parameters, of shapes {', '.join(map(str, self.blob_shapes))}")
            raise
        return self

    # -- data sources -------------------------------------------------------------------

    def held_bytes(self, *top_shapes: Shape) -> int:
        """Sources: how much of the host's memory their batches take at a time; 0 where tops are computed."""
        return 0

    def source_identity(self) -> dict[str, str]:
        """Sources only: what a ``source_state`` belongs to: the type, the fields that are set, and, where there are
        any, the ``content`` of the list or database.  A state is loaded into a layer of the same identity only.
        """
        identity = {"type": self.type}
        for name in self.param_fields:
            param = getattr(self.param, name)
            for descriptor, value in param.ListFields():
                key = f"{name}.{descriptor.name}"
                if value != descriptor.default_value and key not in self.state_ignores:
                    identity[key] = str(value)
        return identity

    def next_batch(self) -> tuple[Tensor, ...]:
        """Sources only: the next value of every top (CPU tensors, ``context.dtype``)."""
        raise TypeError(f"{type(self).__name__} is not a data source")

    def first_values(self) -> Sequence[Tensor | None]:
        """Sources only: the tops' values from the start; None where they come with each forward (the default)."""
        return [None] * self.num_tops

    def next_values(self, shapes: Sequence[Shape]) -> Sequence[Tensor | None]:
        """Sources only: ``next_batch`` for tops of ``shapes``; None where a forward leaves a top as it is."""
        return self.next_batch()

    def shapes_without_data(self) -> list[Shape]:
        """Sources that read files: the tops' shapes as the fields tell them, without ``setup``; NetError where they do
        not.  For commands that only look at a net whose files are elsewhere."""
        self.fail("the shapes of its tops are not in its fields")

    def source_state(self) -> dict[str, Any]:
        """Sources only: position and random state, JSON-able or bytes, for an exact resume."""
        return {}

    def load_source_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``source_state``: its position and random state, never a setting.

        Raises DataError when that is no place in this layer's data.
        """

    def close(self) -> None:
        """Release files and threads (sources)."""

    def has_hooks(self) -> bool:
        """Whether somebody looks at each call of this very module."""
        hooks = (self._forward_hooks, self._forward_pre_hooks, self._backward_hooks, self._backward_pre_hooks)
        return any(hooks)

    # -- messages -----------------------------------------------------------------------

    def where(self) -> str:
        """``file:line: layer "name" (Type)``, the start of every message about this layer."""
        return f"{self.context.source.layer(self.name)} ({self.type})"

    def fail(self, message: str) -> NoReturn:
        """Raise NetError with the layer's place in front."""
        raise NetError(f"{self.where()}: {message}")

    def check_count(self, what: str, shape: Sequence[int]) -> None:
        """NetError where a blob of this shape would have more values than Caffe counts."""
        if count(shape) > MAX_COUNT:
            self.fail(
                f"{what} has shape {tuple(shape)}, {count(shape)} values; expected at most {MAX_COUNT}, as in Caffe"
            )

    def check_memory(self, what: str, size_bytes: int) -> None:
        """NetError where the host has no ``size_bytes`` for ``what`` (see ``memory.shortage``)."""
        there = None if self.context.shapes_only else shortage(size_bytes)
        if there is not None:
            self.fail(f"{what} takes {size_bytes} bytes, and {there} are free; make batches or layers smaller")

    def fail_without_memory(self, error: BaseException, what: str) -> None:
        """NetError with the layer's place where ``error`` says that a host or GPU has no memory; nothing for others.

        ``what``: the blobs for which it was, with their shapes.
        """
        size = no_memory(error)
        if size is None:
            return
        asked = f" ({size})" if size else ""
        raise NetError(f"{self.where()}: no memory for {what}{asked}; make batches or layers smaller") from error

    def warn(self, message: str) -> None:
        """Warn with the layer's place in front."""
        warnings.warn(printable(f"{self.where()}: {message}"), stacklevel=3)

    def extra_repr(self) -> str:
        return f"{self.name!r}, type={self.type}"

    # -- shape arguments shared by many layers ------------------------------------------

    def canonical_axis(self, axis: int, rank: int, field_name: str = "axis") -> int:
        """Axis in [0, rank), negative ones counted from the end; NetError when outside."""
        if not -rank <= axis < rank:
            self.fail(f"{field_name} is {axis}; expected {-rank} to {rank - 1} for a {rank}-axis bottom")
        return axis % rank if rank else 0


def count(shape: Sequence[int], start: int = 0, stop: int | None = None) -> int:
    """Number of elements in ``shape[start:stop]`` (1 for an empty range)."""
    total = 1
    for dim in shape[start:stop]:
        total *= dim
    return total
