"""From a filtered NetParameter to connected layers: blobs, parameters, and who gets gradients, by Caffe's rules."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, LayerContext, Shape, SharedMemory
from caffe_compat.net.layer_checks import check_blob_counts, check_fork_fields, check_layers, warn_unread_fields
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import caffe_pb2

AUTOMATIC = "(automatic)"  # Caffe's name for the top that a loss layer makes up


class _Shaped(Protocol):
    """A tensor, or a blob."""

    @property
    def shape(self) -> Sequence[int]: ...


@dataclass
class Step:
    """One layer in its net: which blobs it reads and writes, by number in ``Net.blob_names``."""

    layer: Layer
    bottoms: list[int]
    tops: list[int]
    loss_weights: list[float]
    need_backward: bool = False
    bottom_need_backward: list[bool] = field(default_factory=list)
    detach: list[bool] = field(default_factory=list)  # bottoms through which no gradient goes
    param_need_backward: list[bool] = field(default_factory=list)

    @property
    def shared_memory(self) -> SharedMemory | None:
        """How the tops share another blob's memory; see ``Layer.shared_memory``."""
        return self.layer.shared_memory(self.need_backward)

    @property
    def passes_on(self) -> bool:
        """Whether the tops are bottom 0's own values."""
        shared = self.shared_memory
        return shared is not None and not shared.of_parameter

    def run(self, values: dict[int, Tensor]) -> None:
        """Read the bottoms from ``values`` and put the tops there."""
        bottoms = [values[i].detach() if cut else values[i] for i, cut in zip(self.bottoms, self.detach, strict=True)]
        try:
            tops = self.layer(*bottoms)
        except (MemoryError, RuntimeError) as error:
            self.fail_without_memory(error, bottoms)
            raise
        if isinstance(tops, Tensor):
            tops = (tops,)
        for index, top in zip(self.tops, tops, strict=True):
            values[index] = top

    def fail_without_memory(self, error: BaseException, bottoms: Iterable[_Shaped]) -> None:
        """``Layer.fail_without_memory`` with the shapes of its blobs."""
        shapes = [tuple(bottom.shape) for bottom in bottoms]
        described = [f"bottom {j} of shape {shape}" for j, shape in enumerate(shapes)]
        with suppress(NetError):
            tops = zip(self.layer.param.top, self.layer.infer_shapes(*shapes), strict=False)
            described += [f'top "{name}" of shape {shape}' for name, shape in tops]
        self.layer.fail_without_memory(error, ", ".join(described))


@dataclass(frozen=True)
class LearnableParam:
    """A parameter as the solver sees it; a shared one appears once, under its owner."""

    parameter: nn.Parameter
    lr_mult: float
    decay_mult: float
    layer: str
    index: int


@dataclass
class Graph:
    """The layers of a net in order, connected.

    ``param`` is a NetParameter after filtering and with Splits; each layer in it gets the net's phase where it has
    none.  Raises NetError, naming the layer, for whatever Caffe would refuse.
    """

    param: caffe_pb2.NetParameter
    context: LayerContext
    steps: list[Step] = field(default_factory=list)
    blob_names: list[str] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    learnable: list[LearnableParam] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)  # tops of Input layers
    outputs: list[str] = field(default_factory=list)  # blobs that no layer reads

    def __post_init__(self) -> None:
        self._need_backward: list[bool] = []  # per blob
        self._explicit_mults: list[list[bool]] = []  # per learnable: lr_mult, decay_mult given
        self._index_of: dict[str, int] = {}
        self._available: set[str] = set()
        self._owners: dict[str, tuple[int, Layer, int]] = {}
        types = layer_types()
        check_layers(self.param, types, self.context.source)
        for param in self.param.layer:
            if not param.HasField("phase"):
                param.phase = self.param.state.phase
            self._add(types[param.type](param, self._context_for(param)), param)
        self.outputs = sorted(self._available)
        self._mark_backward()

    @property
    def params(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the layers that have any, in Caffe's order of blobs."""
        return {step.layer.name: step.layer.blobs for step in self.steps if step.layer.blobs}

    def set_top_shapes(self, step: Step, shapes: Iterable[Shape]) -> None:
        """Note the shapes of the blobs that ``step`` writes."""
        for index, shape in zip(step.tops, shapes, strict=True):
            step.layer.check_count(f'top "{self.blob_names[index]}"', shape)
            self.shapes[index] = tuple(shape)

    def _add(self, layer: Layer, param: caffe_pb2.LayerParameter) -> None:
        warn_unread_fields(layer)
        check_fork_fields(layer)
        step = self._connect(layer, param)
        check_blob_counts(layer, len(step.bottoms), len(step.tops))
        bottom_shapes = [self.shapes[i] for i in step.bottoms]
        try:
            layer.setup(*bottom_shapes)
        except (MemoryError, RuntimeError) as error:
            layer.fail_without_memory(error, f"setting up on bottoms of shapes {bottom_shapes}")
            raise
        self.set_top_shapes(step, layer.infer_shapes(*bottom_shapes))
        shapes = [self.shapes[i] for i in step.tops]
        layer.check_memory(f"holding batches of {' and '.join(map(str, shapes))}", layer.held_bytes(*shapes))
        step.loss_weights = _loss_weights(layer, param, len(step.tops))
        self._adopt_params(step, param)
        self.steps.append(step)

    def _context_for(self, param: caffe_pb2.LayerParameter) -> LayerContext:
        # A layer may fix its own phase in the file.
        phase = caffe_pb2.Phase.Name(param.phase)
        return self.context if phase == self.context.phase else replace(self.context, phase=phase)

    def _connect(self, layer: Layer, param: caffe_pb2.LayerParameter) -> Step:
        step = Step(layer, [], [], [])
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            layer.fail(
                f"propagate_down is given {len(param.propagate_down)} times; "
                f"expected 0 or {len(param.bottom)}, the number of bottoms"
            )
        for j, name in enumerate(param.bottom):
            if name not in self._available:
                layer.fail(f'unknown bottom blob "{name}" (bottom {j}): no earlier layer offers it')
            self._available.remove(name)
            index = self._index_of[name]
            step.bottoms.append(index)
            need = self._need_backward[index]
            step.need_backward |= need
            step.bottom_need_backward.append(bool(param.propagate_down[j]) if param.propagate_down else need)
        for j, name in enumerate(param.top):
            in_place = j < len(param.bottom) and name == param.bottom[j]
            if not in_place:
                if name in self._index_of:
                    layer.fail(f'top blob "{name}" is produced by two layers; rename one')
                self._index_of[name] = self._new_blob(name)
            step.tops.append(self._index_of[name])
            self._available.add(name)
            if layer.is_input:
                self.inputs.append(name)
        if layer.is_loss:
            for _ in range(len(step.tops), layer.top_count[0]):
                step.tops.append(self._new_blob(AUTOMATIC))
        return step

    def _new_blob(self, name: str) -> int:
        self.blob_names.append(name)
        self.shapes.append(())
        self._need_backward.append(False)
        return len(self.blob_names) - 1

    def _adopt_params(self, step: Step, param: caffe_pb2.LayerParameter) -> None:
        layer = step.layer
        blobs = layer.blobs
        if len(param.param) > len(blobs):
            layer.fail(f"{len(param.param)} param entries for {len(blobs)} parameter blobs; remove the excess")
        for i, parameter in enumerate(blobs):
            spec = param.param[i] if i < len(param.param) else caffe_pb2.ParamSpec()
            step.param_need_backward.append(spec.lr_mult != 0)
            step.need_backward |= spec.lr_mult != 0
            lr_mult = spec.lr_mult if parameter.requires_grad else 0.0
            if spec.name and spec.name in self._owners:
                self._share_param(layer, i, spec, self._owners[spec.name])
                continue
            if spec.name:
                self._owners[spec.name] = (len(self.learnable), layer, i)
            self.learnable.append(LearnableParam(parameter, lr_mult, spec.decay_mult, layer.name, i))
            self._explicit_mults.append([spec.HasField("lr_mult"), spec.HasField("decay_mult")])
        if step.need_backward:
            for top in step.tops:
                self._need_backward[top] = True

    def _share_param(self, layer: Layer, i: int, spec: caffe_pb2.ParamSpec, owner: tuple[int, Layer, int]) -> None:
        number, owner_layer, owner_index = owner
        ours, theirs = layer.blob_shapes[i], owner_layer.blob_shapes[owner_index]
        permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
        if (torch.Size(ours).numel() != torch.Size(theirs).numel()) if permissive else ours != theirs:
            layer.fail(
                f'cannot share param "{spec.name}" of layer "{owner_layer.name}": its shape is {theirs}, '
                f"this layer's is {ours}" + ("" if permissive else "; share_mode: PERMISSIVE compares only counts")
            )
        learnable = self.learnable[number]
        for k, mult in enumerate(("lr_mult", "decay_mult")):
            if not spec.HasField(mult):
                continue
            wanted, known = getattr(spec, mult), getattr(learnable, mult)
            if self._explicit_mults[number][k] and wanted != known:
                layer.fail(f'shared param "{spec.name}" has {mult} {wanted} here and {known} at its owner')
            self._explicit_mults[number][k] = True
            learnable = replace(learnable, **{mult: wanted})
        self.learnable[number] = learnable
        layer.share_blob(i, learnable.parameter)

    def _mark_backward(self) -> None:
        """Caffe's rules for which layers, bottoms and parameters get gradients."""
        under_loss: set[str] = set()
        skip: set[str] = set()
        for step in reversed(self.steps):
            top_names = [self.blob_names[i] for i in step.tops]
            bottom_names = [self.blob_names[i] for i in step.bottoms]
            contributes = any(step.loss_weights) or any(name in under_loss for name in top_names)
            if step.need_backward and all(name in skip for name in top_names):
                step.need_backward = False
                step.bottom_need_backward = [False] * len(step.bottoms)
            step.need_backward &= contributes
            if not contributes:
                step.bottom_need_backward = [False] * len(step.bottoms)
            else:
                under_loss.update(bottom_names)
            skip.update(name for name, need in zip(bottom_names, step.bottom_need_backward, strict=True) if not need)
        if self.param.force_backward:
            self._force_backward()
        for step in self.steps:
            asked = step.layer.param.propagate_down or [True] * len(step.bottoms)
            step.detach = [not (ask or need) for ask, need in zip(asked, step.bottom_need_backward, strict=True)]
        # A parameter needs a gradient when any of the layers that use it asks for one.
        wanted = {
            id(parameter)
            for step in self.steps
            for parameter, need in zip(step.layer.blobs, step.param_need_backward, strict=True)
            if need and parameter.requires_grad
        }
        for step in self.steps:
            for parameter in step.layer.parameters():
                parameter.requires_grad_(id(parameter) in wanted)

    def skip_backward(self) -> None:
        """Let gradients go only where Caffe's go: to what is under one of the net's own losses.

        For whoever trains on those losses alone (a Solver): autograd keeps nothing for the other layers then.
        """
        for step in self.steps:
            step.detach = [
                self._need_backward[i] and not need
                for i, need in zip(step.bottoms, step.bottom_need_backward, strict=True)
            ]

    def _force_backward(self) -> None:
        for step in self.steps:
            step.need_backward = True
            for j, index in enumerate(step.bottoms):
                exempt = j in step.layer.no_gradient_bottoms and j not in step.layer.forced_bottoms
                step.bottom_need_backward[j] |= not exempt
                self._need_backward[index] |= step.bottom_need_backward[j]
            step.param_need_backward = [True] * len(step.param_need_backward)


def _loss_weights(layer: Layer, param: caffe_pb2.LayerParameter, tops: int) -> list[float]:
    # Caffe gives a loss layer one weight, so that one with two tops has to name both.
    weights = list(param.loss_weight) or ([1.0] if layer.is_loss else [0.0] * tops)
    if len(weights) != tops:
        layer.fail(f"loss_weight is given {len(param.loss_weight)} times; expected it once for each of {tops} tops")
    return weights
