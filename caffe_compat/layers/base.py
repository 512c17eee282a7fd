"""The life of a layer: construct, setup (parameters), infer_shapes, forward.

N C H W in shape comments: batch, channels, height, width.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.proto import Source

Shape = tuple[int, ...]


@dataclass
class LayerContext:
    """What a layer may know of the net around it."""

    phase: str = "TRAIN"  # "TRAIN" or "TEST"
    source: Source = field(default_factory=Source)  # the file that the net came from, for error texts
    solver_rank: int = 0  # this process among ``solver_count`` that share the data
    solver_count: int = 1
    dtype: torch.dtype = field(default=torch.float32)  # of parameters and of data read
    skip_bad_records: int = 0  # how many unreadable records a data layer may pass over


class Layer(nn.Module):
    """Base of all layers.  A subclass sets the class variables that differ, and implements
    ``infer_shapes`` and ``forward``; one with parameters also implements ``setup``.

    The gradient comes from autograd; where Caffe's differs from PyTorch's, the layer's
    ``forward`` goes through a ``torch.autograd.Function`` of its own.
    """

    type: ClassVar[str] = ""  # type: ignore[assignment]  # nn.Module.type() is of no use to a layer
    #: the ``*_param`` messages of LayerParameter that this type reads; others draw a warning
    param_fields: ClassVar[tuple[str, ...]] = ()
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
    #: bottoms that never receive a gradient (labels)
    no_gradient_bottoms: ClassVar[tuple[int, ...]] = ()
    #: those of them that force_backward asks for all the same, so that backward refuses, as in Caffe
    forced_bottoms: ClassVar[tuple[int, ...]] = ()

    def __init__(self, param: Any, context: LayerContext | None = None) -> None:
        """``param``: the (upgraded) LayerParameter message."""
        super().__init__()
        self.param = param
        self.name: str = param.name
        # Messages cannot be read under torch.compile: forward uses plain attributes.
        self.num_tops = len(param.top)
        self.context = context or LayerContext()
        self.phase = self.context.phase
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

    # -- parameters ("blobs" in Caffe) --------------------------------------------------

    def add_blob(
        self,
        name: str,
        shape: Sequence[int],
        fill: Callable[[Tensor], None] | None = None,
        trainable: bool = True,
    ) -> None:
        """Append a parameter blob, zero-filled, then ``fill(tensor)`` in place.

        ``name`` is the attribute and state_dict name (``weight``, ``bias``, ...).  Blobs keep
        the order in which they are added, which is the order in a caffemodel.
        """
        tensor = torch.zeros(tuple(shape), dtype=self.context.dtype)
        if fill is not None:
            try:
                fill(tensor)
            except NetError as error:
                self.fail(f"{name}: {error}")
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

    def replaces_diff(self, index: int, *bottom_shapes: Shape) -> bool:
        """True where Caffe's backward overwrites the gradient of blob ``index`` instead of adding to it."""
        return False

    # -- data sources -------------------------------------------------------------------

    def next_batch(self) -> tuple[Tensor, ...]:
        """Sources only: the next value of every top (CPU tensors, ``context.dtype``)."""
        raise TypeError(f"{type(self).__name__} is not a data source")

    def source_state(self) -> dict[str, Any]:
        """Sources only: position and random state, JSON-able or bytes, for an exact resume."""
        return {}

    def load_source_state(self, state: dict[str, Any]) -> None:
        """Continue from a ``source_state``."""

    def close(self) -> None:
        """Release files and threads (sources)."""

    # -- messages -----------------------------------------------------------------------

    def where(self) -> str:
        """``file:line: layer "name" (Type)``, the start of every message about this layer."""
        return f"{self.context.source.layer(self.name)} ({self.type})"

    def fail(self, message: str) -> NoReturn:
        """Raise NetError with the layer's place in front."""
        raise NetError(f"{self.where()}: {message}")

    def warn(self, message: str) -> None:
        """Warn with the layer's place in front."""
        warnings.warn(f"{self.where()}: {message}", stacklevel=3)

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
