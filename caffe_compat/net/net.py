"""A Caffe net as one ``torch.nn.Module``."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, LayerContext, Shape
from caffe_compat.layers.registry import layer_types
from caffe_compat.net.checks import check_blob_counts, check_layer_types, warn_unread_fields
from caffe_compat.net.filter import filter_net, phase_value
from caffe_compat.net.splits import insert_splits
from caffe_compat.net.weights import CopyReport, copy_weights, save_weights, share_weights
from caffe_compat.precision import precision
from caffe_compat.proto import Source, caffe_pb2, read_net_with_source

AUTOMATIC = "(automatic)"  # Caffe's name for the top that a loss layer makes up


@dataclass
class Step:
    """One layer in its net: which blobs it reads and writes, by number in ``Net.blob_names``."""

    layer: Layer
    bottoms: list[int]
    tops: list[int]
    loss_weights: list[float]
    need_backward: bool = False
    bottom_need_backward: list[bool] = field(default_factory=list)
    detach: list[bool] = field(default_factory=list)
    param_need_backward: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class LearnableParam:
    """A parameter as the solver sees it; a shared one appears once, under its owner."""

    parameter: nn.Parameter
    lr_mult: float
    decay_mult: float
    layer: str
    index: int


class Net(nn.Module):
    """A Caffe net as a PyTorch module: Caffe's layer, blob and parameter names and numbers.

    ``model``: path of a prototxt (any Caffe generation) or a NetParameter message.
    ``weights``: path of a ``.caffemodel`` or ``.caffemodel.h5`` to copy by layer name.
    ``phase``: "TRAIN" or "TEST"; ``level`` and ``stages`` enter the layers' include rules.
    ``dtype``: of parameters and blobs, float32 (as Caffe) or float64.
    ``solver_rank``/``solver_count``: this process's share of the data in parallel training.

    >>> net = Net("deploy.prototxt", "weights.caffemodel", phase="TEST")
    >>> probabilities = net(data=images)["prob"]

    Raises ProtoError for an unreadable file and NetError for a net that Caffe would refuse.
    """

    _anchor: Tensor

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        weights: str | os.PathLike[str] | None = None,
        phase: str = "TRAIN",
        *,
        level: int = 0,
        stages: Iterable[str] = (),
        dtype: torch.dtype = torch.float32,
        solver_rank: int = 0,
        solver_count: int = 1,
        skip_bad_records: int = 0,
        source: Source | None = None,
    ) -> None:
        super().__init__()
        precision()  # TF32 off unless asked for
        from_file = isinstance(model, str | os.PathLike)
        full, origin = read_net_with_source(model)
        origin = source or origin
        self.source = origin.name
        full.state.phase = phase_value(phase)
        full.state.level = level
        if from_file:
            # Only here do the stages of the call join those of the file, as in Caffe.
            full.state.stage.extend(stages)
        else:
            full.state.stage.extend(s for s in stages if s not in full.state.stage)
        self.filtered_param = filter_net(full, origin)
        self.param = insert_splits(self.filtered_param, origin)
        self.name: str = self.param.name
        self.phase: str = caffe_pb2.Phase.Name(full.state.phase)
        self.context = LayerContext(
            phase=self.phase,
            source=origin,
            solver_rank=solver_rank,
            solver_count=solver_count,
            dtype=dtype,
            skip_bad_records=skip_bad_records,
        )
        # Follows .to(): tells where and in which dtype inputs are wanted, even without parameters.
        self.register_buffer("_anchor", torch.zeros(0, dtype=dtype), persistent=False)

        self.steps: list[Step] = []
        self.blob_names: list[str] = []
        self._shapes: list[Shape] = []
        self._blob_need_backward: list[bool] = []
        self.learnable: list[LearnableParam] = []
        self._explicit_mults: list[list[bool]] = []  # per learnable: lr_mult, decay_mult given
        self.inputs: list[str] = []
        self._build()
        self._sources = [step for step in self.steps if step.layer.is_source]
        self._blob_index = {name: i for i, name in enumerate(self.blob_names)}
        self.train(self.phase == "TRAIN")
        if weights is not None:
            self.copy_from(weights)

    # -- building -----------------------------------------------------------------------

    def _build(self) -> None:
        types = layer_types()
        check_layer_types(self.param, types, self.context.source)
        index_of: dict[str, int] = {}
        available: set[str] = set()
        owners: dict[str, tuple[int, Layer, int]] = {}
        for param in self.param.layer:
            if not param.HasField("phase"):
                param.phase = self.param.state.phase
            layer = types[param.type](param, self._context_for(param))
            warn_unread_fields(layer)
            step = self._connect(layer, param, index_of, available)
            check_blob_counts(layer, len(step.bottoms), len(step.tops))
            bottom_shapes = [self._shapes[i] for i in step.bottoms]
            layer.setup(*bottom_shapes)
            self._set_top_shapes(step, layer.infer_shapes(*bottom_shapes))
            step.loss_weights = _loss_weights(layer, param, len(step.tops))
            self._adopt_params(step, param, owners)
            self._modules[self._module_name(layer.name)] = layer
            self.steps.append(step)
        self.outputs = sorted(available)
        self._mark_backward()

    def _context_for(self, param: Any) -> LayerContext:
        # A layer may fix its own phase in the file.
        phase = caffe_pb2.Phase.Name(param.phase)
        if phase == self.context.phase:
            return self.context
        return LayerContext(**{**vars(self.context), "phase": phase})

    def _module_name(self, layer_name: str) -> str:
        # A dot would split state_dict keys, a quote break torch.export; two layers may have one name.
        name = re.sub(r'[."\'\\\s]', "_", layer_name) or "unnamed"
        unique, number = name, 2
        while unique in self._modules:
            unique, number = f"{name}_{number}", number + 1
        return unique

    def _connect(self, layer: Layer, param: Any, index_of: dict[str, int], available: set[str]) -> Step:
        step = Step(layer, [], [], [])
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            layer.fail(
                f"propagate_down is given {len(param.propagate_down)} times; "
                f"expected 0 or {len(param.bottom)}, the number of bottoms"
            )
        for j, name in enumerate(param.bottom):
            if name not in available:
                layer.fail(f'unknown bottom blob "{name}" (bottom {j}): no earlier layer offers it')
            available.remove(name)
            index = index_of[name]
            step.bottoms.append(index)
            need = self._blob_need_backward[index]
            step.need_backward |= need
            step.bottom_need_backward.append(bool(param.propagate_down[j]) if param.propagate_down else need)
        for j, name in enumerate(param.top):
            in_place = j < len(param.bottom) and name == param.bottom[j]
            if not in_place:
                if name in index_of:
                    layer.fail(f'top blob "{name}" is produced by two layers; rename one')
                index_of[name] = self._new_blob(name)
            step.tops.append(index_of[name])
            available.add(name)
            if param.type == "Input":
                self.inputs.append(name)
        if layer.is_loss:
            for _ in range(len(step.tops), layer.top_count[0]):
                step.tops.append(self._new_blob(AUTOMATIC))
        return step

    def _new_blob(self, name: str) -> int:
        self.blob_names.append(name)
        self._shapes.append(())
        self._blob_need_backward.append(False)
        return len(self.blob_names) - 1

    def _adopt_params(self, step: Step, param: Any, owners: dict[str, tuple[int, Layer, int]]) -> None:
        layer = step.layer
        blobs = layer.blobs
        if len(param.param) > len(blobs):
            layer.fail(f"{len(param.param)} param entries for {len(blobs)} parameter blobs; remove the excess")
        for i, parameter in enumerate(blobs):
            spec = param.param[i] if i < len(param.param) else caffe_pb2.ParamSpec()
            step.param_need_backward.append(spec.lr_mult != 0)
            step.need_backward |= spec.lr_mult != 0
            lr_mult = spec.lr_mult if parameter.requires_grad else 0.0
            if spec.name and spec.name in owners:
                self._share_param(layer, i, spec, owners[spec.name])
                continue
            if spec.name:
                owners[spec.name] = (len(self.learnable), layer, i)
            self.learnable.append(LearnableParam(parameter, lr_mult, spec.decay_mult, layer.name, i))
            self._explicit_mults.append([spec.HasField("lr_mult"), spec.HasField("decay_mult")])
        if step.need_backward:
            for top in step.tops:
                self._blob_need_backward[top] = True

    def _share_param(self, layer: Layer, i: int, spec: Any, owner: tuple[int, Layer, int]) -> None:
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
            step.detach = [
                self._blob_need_backward[i] and not need
                for i, need in zip(step.bottoms, step.bottom_need_backward, strict=True)
            ]
        # A parameter needs a gradient when any of the layers that use it asks for one.
        wanted = {
            id(parameter)
            for step in self.steps
            for parameter, need in zip(step.layer.blobs, step.param_need_backward, strict=True)
            if need and parameter.requires_grad
        }
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in wanted)

    def _force_backward(self) -> None:
        for step in self.steps:
            step.need_backward = True
            for j, index in enumerate(step.bottoms):
                exempt = j in step.layer.no_gradient_bottoms and j not in step.layer.forced_bottoms
                step.bottom_need_backward[j] |= not exempt
                self._blob_need_backward[index] |= step.bottom_need_backward[j]
            step.param_need_backward = [True] * len(step.param_need_backward)

    # -- looking ------------------------------------------------------------------------

    @property
    def layers(self) -> dict[str, Layer]:
        """Layers by Caffe's names, in order; Splits included."""
        return {step.layer.name: step.layer for step in self.steps}

    @property
    def params(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the layers that have any, in Caffe's order of blobs."""
        return {step.layer.name: step.layer.blobs for step in self.steps if step.layer.blobs}

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """The shape of every blob at the net's current input sizes."""
        return dict(zip(self.blob_names, self._shapes, strict=True))

    @property
    def blob_shapes_in_order(self) -> list[Shape]:
        """The same, by blob number (names can repeat: Caffe's "(automatic)")."""
        return self._shapes

    def note_shape(self, index: int, shape: Shape) -> None:
        """Record that blob ``index`` now has ``shape`` (a layer whose shape depends on data)."""
        self._shapes[index] = shape

    @property
    def device(self) -> torch.device:
        """Where the net's parameters are and inputs are moved to."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of parameters and blobs."""
        return self._anchor.dtype

    # -- running ------------------------------------------------------------------------

    def forward(self, **blobs: Tensor) -> dict[str, Tensor]:
        """Run the net; keyword arguments replace what Input and data layers would produce.

        Returns the output blobs (those that no layer reads) by name.  Raises NetError for an
        unknown name or shapes that do not fit.
        """
        values, _ = self._run(blobs)
        return {name: values[self._blob_index[name]] for name in self.outputs}

    def forward_with_loss(self, **blobs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Like calling the net; also the scalar sum of all losses times their loss_weight."""
        values, loss = self._run(blobs)
        return {name: values[self._blob_index[name]] for name in self.outputs}, loss

    def extract(self, names: Iterable[str], **blobs: Tensor) -> dict[str, Tensor]:
        """Run the net and return any blobs by name (after in-place layers), not only outputs."""
        names = list(names)
        unknown = [name for name in names if name not in self._blob_index]
        if unknown:
            raise NetError(f"{self.source}: no blob named {unknown[0]!r}; there are {', '.join(self.blob_names)}")
        values, _ = self._run(blobs)
        return {name: values[self._blob_index[name]] for name in names}

    def next_batch(self) -> dict[str, Tensor]:
        """One batch from every source (data layers, Input layers' held values), on our device."""
        batch: dict[str, Tensor] = {}
        for step in self._sources:
            for index, value in zip(step.tops, step.layer.next_batch(), strict=True):
                batch[self.blob_names[index]] = self._place(value)
        return batch

    def _run(self, given: Mapping[str, Tensor]) -> tuple[dict[int, Tensor], Tensor]:
        values = self._source_values(given)
        loss = self._anchor.new_zeros(())
        for step in self.steps:
            if not step.layer.is_source:
                bottoms = [
                    values[i].detach() if cut else values[i] for i, cut in zip(step.bottoms, step.detach, strict=True)
                ]
                tops = step.layer(*bottoms)
                if isinstance(tops, Tensor):
                    tops = (tops,)
                for index, top in zip(step.tops, tops, strict=True):
                    values[index] = top
            for index, weight in zip(step.tops, step.loss_weights, strict=True):
                if weight:
                    loss = loss + weight * values[index].sum()
        return values, loss

    def _source_values(self, given: Mapping[str, Tensor]) -> dict[int, Tensor]:
        values: dict[int, Tensor] = {}
        used = 0
        for step in self._sources:
            names = [self.blob_names[i] for i in step.tops]
            known = [name for name in names if name in given]
            used += len(known)
            if len(known) == len(names):
                tops = tuple(given[name] for name in names)
            elif known and step.layer.type != "Input":
                missing = ", ".join(name for name in names if name not in given)
                step.layer.fail(f"{', '.join(known)} given but not {missing}: give every top of a data layer, or none")
            else:
                held = step.layer.next_batch()
                tops = tuple(given.get(name, value) for name, value in zip(names, held, strict=True))
            for index, value in zip(step.tops, tops, strict=True):
                values[index] = self._place(value)
        if used != len(given):
            self._refuse_unknown(given)
        if any(tuple(value.shape) != self._shapes[index] for index, value in values.items()):
            self.infer_all({index: tuple(value.shape) for index, value in values.items()})
        return values

    def _refuse_unknown(self, given: Mapping[str, Tensor]) -> None:
        names = [self.blob_names[i] for step in self._sources for i in step.tops]
        unknown = [name for name in given if name not in names]
        raise NetError(
            f"{self.source}: {unknown[0]!r} is not an input of this net; inputs are {', '.join(names) or 'none'}"
        )

    def _place(self, value: Any) -> Tensor:
        return torch.as_tensor(value).to(self.device, self.dtype, non_blocking=True)

    # -- shapes -------------------------------------------------------------------------

    def reshape(self, **input_shapes: Shape) -> None:
        """Set new input shapes and infer all others; NetError names the layer that cannot fit."""
        sources = {self.blob_names[i]: i for step in self._sources for i in step.tops}
        for name in input_shapes:
            if name not in sources:
                raise NetError(f"{self.source}: {name!r} is not an input; inputs are {', '.join(sources)}")
        known = {index: tuple(input_shapes.get(name, self._shapes[index])) for name, index in sources.items()}
        self.infer_all(known)

    def infer_all(self, known: Mapping[int, Shape]) -> None:
        """Infer every shape from those of the source blobs, given by blob number."""
        before = list(self._shapes)
        try:
            for step in self.steps:
                if step.layer.is_source:
                    self._set_top_shapes(step, [known[i] for i in step.tops])
                else:
                    self._set_top_shapes(step, step.layer.infer_shapes(*(self._shapes[i] for i in step.bottoms)))
        except NetError:
            self._shapes = before
            raise

    def _set_top_shapes(self, step: Step, shapes: Iterable[Shape]) -> None:
        for index, shape in zip(step.tops, shapes, strict=True):
            self._shapes[index] = tuple(shape)

    # -- weights ------------------------------------------------------------------------

    def copy_from(self, weights: str | os.PathLike[str] | Any) -> CopyReport:
        """Copy parameters by layer name from a file or NetParameter, by Caffe's rules.

        Layers that this net lacks are ignored and reported; a shape that differs is a NetError.
        """
        return copy_weights(self, weights)

    def share_with(self, other: "Net") -> None:
        """Use the parameters of ``other``'s layers of the same name in place of our own, as a
        solver's test nets do.  NetError where counts or shapes differ."""
        share_weights(self, other)

    def save(self, path: str | os.PathLike[str], hdf5: bool | None = None) -> None:
        """Write parameters so that Caffe can read them: HDF5 when ``hdf5``, or when it is None and
        the name ends in ``.h5``; a binary caffemodel otherwise."""
        save_weights(self, path, os.fspath(path).endswith(".h5") if hdf5 is None else hdf5)

    def close(self) -> None:
        """Release the data layers' files and threads."""
        for step in self._sources:
            step.layer.close()

    def sources(self) -> Iterator[Layer]:
        """The source layers, in order (for saving and restoring their positions)."""
        return (step.layer for step in self._sources)


def _loss_weights(layer: Layer, param: Any, tops: int) -> list[float]:
    # Caffe gives a loss layer one weight, so that one with two tops has to name both.
    weights = list(param.loss_weight) or ([1.0] if layer.is_loss else [0.0] * tops)
    if len(weights) != tops:
        layer.fail(f"loss_weight is given {len(param.loss_weight)} times; expected it once for each of {tops} tops")
    return weights
