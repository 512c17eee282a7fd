"""A Caffe net as one ``torch.nn.Module``."""

import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError, printable
from caffe_compat.layers.base import Layer, LayerContext, Shape, count
from caffe_compat.net.chains import DEVICES as TOWER_DEVICES
from caffe_compat.net.chains import Fused, find_chains
from caffe_compat.net.graph import Graph, Step
from caffe_compat.net.inference import InferenceNet
from caffe_compat.net.layer_checks import read_known_net
from caffe_compat.net.phase_rules import filter_net, phase_value
from caffe_compat.net.splits import insert_splits
from caffe_compat.net.tower import find_towers
from caffe_compat.net.weights import CopyReport, copy_weights, repeated_names, save_weights, share_weights
from caffe_compat.proto import Source, caffe_pb2


class Net(nn.Module):
    """A Caffe net as a PyTorch module: Caffe's layer, blob and parameter names and numbers.

    ``model``: path of a prototxt (any Caffe generation) or a NetParameter message.
    ``weights``: path of a ``.caffemodel`` or ``.caffemodel.h5`` to copy by layer name; ``strict``: all or nothing
    (see ``copy_from``).
    ``phase``: "TRAIN" (the default) or "TEST".  It chooses the layers, fixes what data layers do, and is the mode to
    begin with: a TEST net starts as after ``.eval()``.  From then on ``.train()`` and ``.eval()`` decide, as in any
    module, whether Dropout drops and BatchNorm takes the batch's statistics (``use_global_stats`` wins over both).
    ``level`` and ``stages`` enter the layers' include rules.
    ``dtype``: of parameters and blobs, float32 (as Caffe) or float64.
    ``fast``: chains of layers run as one operator each (``net/chains.py`` lists them); also an attribute that may be
    set at any time.  Blobs inside a chain are made only when ``extract`` asks for them.
    ``solver_rank``/``solver_count``: this process's share of the data in parallel training.
    ``allow_python_layers``: let Python layers import and run the modules that the file names (docs/trust.md).

    >>> net = Net("deploy.prototxt", "weights.caffemodel", phase="TEST")
    >>> probabilities = net(data=images)["prob"]  # or net(images)

    A parameter gets a gradient from whatever loss the caller makes of the blobs, unless its lr_mult is 0; only
    ``propagate_down: false`` cuts the way.  (A Solver leaves out more, as Caffe does: ``Graph.skip_backward``.)

    Raises ProtoError for an unreadable file and NetError for a net that Caffe would refuse.
    """

    _anchor: Tensor

    def __init__(
        self,
        model: str | os.PathLike[str] | caffe_pb2.NetParameter,
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
        fast: bool = False,
        strict: bool = False,
        allow_python_layers: bool = False,
    ) -> None:
        super().__init__()
        from_file = isinstance(model, str | os.PathLike)
        full, origin = read_known_net(model)
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
            allow_python_layers=allow_python_layers,
        )
        # Follows .to(): tells where and in which dtype inputs are wanted, even without parameters.
        self.register_buffer("_anchor", torch.zeros(0, dtype=dtype), persistent=False)

        #: the layers, connected
        self.graph = Graph(self.param, self.context)
        self.steps = self.graph.steps
        self.blob_names = self.graph.blob_names
        self.learnable = self.graph.learnable
        self.inputs, self.outputs = self.graph.inputs, self.graph.outputs
        self._shapes = self.graph.shapes
        for step in self.steps:
            self._modules[self._module_name(step.layer.name)] = step.layer
            step.layer.train(step.layer.phase == "TRAIN")
        self._fast_units: list[list[Step | Fused]] | None = None
        self._memory_checked = False
        self.fast = fast
        self._sources = [step for step in self.steps if step.layer.is_source]
        self._source_tops = [list(step.tops) for step in self._sources]
        self._left_out: set[int] = set()  # ids of the steps that are not run
        self._blob_index = {name: i for i, name in enumerate(self.blob_names)}
        self.training = self.phase == "TRAIN"
        if weights is not None:
            self.copy_from(weights, strict=strict)

    def _module_name(self, layer_name: str) -> str:
        # A dot would split state_dict keys, a quote break torch.export; two layers may have one name.
        name = re.sub(r'[."\'\\\s]', "_", layer_name) or "unnamed"
        unique, number = name, 2
        while unique in self._modules:
            unique, number = f"{name}_{number}", number + 1
        return unique

    # A layer may have the name of anything that a module has (fast, training, forward): our own come first, and layers
    # are found in ``layers`` and, by state_dict's names, in ``get_submodule``.

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_modules", ()) and not isinstance(value, nn.Module):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def get_submodule(self, target: str) -> nn.Module:
        """The module at ``target``, as in ``nn.Module``; a layer whatever its name."""
        first, _, rest = target.partition(".")
        if first in self._modules:
            layer = self._modules[first]
            assert layer is not None
            return layer.get_submodule(rest)
        return super().get_submodule(target)

    def extra_repr(self) -> str:
        return f"{self.name!r}, phase={self.phase}"

    # -- looking ------------------------------------------------------------------------

    @property
    def layers(self) -> dict[str, Layer]:
        """Layers by Caffe's names, in order; Splits included."""
        return {step.layer.name: step.layer for step in self.steps}

    @property
    def params(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the layers that have any, in Caffe's order of blobs."""
        return self.graph.params

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """The shape of every blob at the net's current input sizes."""
        return dict(zip(self.blob_names, self._shapes, strict=True))

    @property
    def blob_shapes_in_order(self) -> list[Shape]:
        """The same, by blob number (names can repeat: Caffe's "(automatic)")."""
        return self._shapes

    def note_shapes(self, shapes: Sequence[Shape]) -> None:
        """Record the shapes of all blobs, by blob number, that somebody else (the blob engine) has made."""
        self._shapes[:] = shapes

    @property
    def device(self) -> torch.device:
        """Where the net's parameters are and inputs are moved to."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of parameters and blobs."""
        return self._anchor.dtype

    # -- running ------------------------------------------------------------------------

    def __call__(self, /, *inputs: Any, **blobs: Tensor) -> Any:
        """``forward``, with hooks."""
        if "self" in blobs:  # nn.Module's own method has an argument of that name
            return super().__call__(*inputs, blobs)
        return super().__call__(*inputs, **blobs)

    def forward(self, /, *inputs: Any, **blobs: Tensor) -> dict[str, Tensor]:
        """Run the net; what is given replaces what Input and data layers would produce.

        Blobs come by keyword, in a dict (for names that Python does not take: ``net({"input.1": x})``), or in the
        order of the Input and data layers' tops (``net(images, labels)``).

        Returns the output blobs (those that no layer reads) by name.  Raises NetError for an
        unknown name or shapes that do not fit.
        """
        values, _ = self._run(self._given(inputs, blobs))
        return {name: values[self._blob_index[name]] for name in self.outputs}

    def forward_with_loss(self, /, *inputs: Any, **blobs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Like calling the net; also the scalar sum of all losses times their loss_weight."""
        values, loss = self._run(self._given(inputs, blobs))
        return {name: values[self._blob_index[name]] for name in self.outputs}, loss

    def extract(self, names: Iterable[str], /, *inputs: Any, **blobs: Tensor) -> dict[str, Tensor]:
        """Run the net and return any blobs by name (after in-place layers), not only outputs."""
        names = list(names)
        unknown = [name for name in names if name not in self._blob_index]
        if unknown:
            raise NetError(f"{self.source}: no blob named {unknown[0]!r}; there are {', '.join(self.blob_names)}")
        values, _ = self._run(self._given(inputs, blobs), [self._blob_index[name] for name in names])
        left_out = [name for name in names if self._blob_index[name] not in values]
        if left_out:
            raise NetError(
                f"{self.source}: blob {left_out[0]!r} is not made, as the net starts behind it (start_behind)"
            )
        return {name: values[self._blob_index[name]] for name in names}

    def next_batch(self) -> dict[str, Tensor]:
        """One batch from every source (data layers, Input layers' held values), on our device."""
        batch: dict[str, Tensor] = {}
        for step, tops in zip(self._sources, self._source_tops, strict=True):
            for index, value in zip(tops, self._next_batch(step), strict=True):
                batch[self.blob_names[index]] = self._place(value)
        return batch

    def start_behind(self, line: Sequence[Step]) -> None:
        """From now on the data layer hands out what ``line`` makes of its first top, in that top's place.

        ``line``: steps of which the first reads the first top of the only source, each other one what the one before it
        writes, and nothing else reads any of it.  They are not run any more; their weights stay part of the net.
        NetError where they are no such line.
        """
        if len(self._sources) != 1:
            raise NetError(f"{self.source}: has {len(self._sources)} sources; start_behind is for nets with one")
        blob = self._sources[0].tops[0]
        left_out = {id(step) for step in line}
        for step in line:
            others = [other for other in self.steps if blob in other.bottoms and id(other) not in left_out]
            in_place = step.tops == [blob]  # then the others read what it writes
            if step.bottoms != [blob] or len(step.tops) != 1 or any(step.loss_weights) or (others and not in_place):
                step.layer.fail("start_behind: other layers read what it reads, or it is not the next one of the line")
            blob = step.tops[0]
        self._source_tops = [[blob, *self._sources[0].tops[1:]]]
        self._left_out = left_out
        self._fast_units = None
        self._memory_checked = False

    def take_inputs(self, inputs: Sequence[Any], blobs: Mapping[str, Any]) -> dict[int, Tensor]:
        """{blob number: value} of every source, from the arguments of a call to ``forward``; the net has their shapes.

        NetError for an unknown name or shapes that do not fit.
        """
        return self._source_values(self._given(inputs, blobs))

    def for_inference(self) -> InferenceNet:
        """This net for running forward only, as fast as can be: called like it, with the same outputs, no gradients.

        BatchNorm, Scale and Bias become part of the weights beside them; ReLU, PReLU and Eltwise sums part of the
        convolution before them.  On the CPU in float32 the rest is one compiled program for each set of input sizes:
        channels last, memory planned, 3x3 and 5x5 kernels by Winograd's filtering where a trial at the first call with
        these sizes finds that faster.  Elsewhere PyTorch's operators run, channels last.  Outputs are those of the
        plain net but for rounding: within 1e-5 of the largest value (behind a Softmax over large values a little more).

        The result has **its own copy of the parameters, as they are now**: what is learned or loaded later does not
        reach it; call this again then.  Layers that nothing above is for, and layers with hooks, run as they are.
        Blobs between the layers cannot be asked for.  See docs/inference.md.

        NetError for a net in training mode (after ``.train()``, or of the TRAIN phase without ``.eval()``).

        >>> fast = Net("deploy.prototxt", "weights.caffemodel", phase="TEST").for_inference()
        >>> probabilities = fast(data=images)["prob"]
        """
        return InferenceNet(self)

    def _given(self, inputs: Sequence[Any], blobs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Blobs by name, from the arguments of a call."""
        if not inputs:
            return blobs
        values, named, last = list(inputs), blobs, inputs[-1]
        if isinstance(last, Mapping):
            named = {**last, **blobs}
            values.pop()
        names = self._source_names()
        if len(values) > len(names):
            raise NetError(f"{self.source}: {len(values)} inputs given; the net takes {', '.join(names) or 'none'}")
        placed = dict(zip(names, values, strict=False))
        twice = [name for name in placed if name in named]
        if twice:
            raise NetError(f"{self.source}: {twice[0]!r} given twice, by its place and by name; give it once")
        return {**placed, **named}

    def _source_names(self) -> list[str]:
        return [self.blob_names[i] for tops in self._source_tops for i in tops]

    def _run(self, given: Mapping[str, Tensor], wanted: Iterable[int] = ()) -> tuple[dict[int, Tensor], Tensor]:
        values = self._source_values(given)
        if not (self._memory_checked or torch.compiler.is_compiling()):
            self.check_memory()
        loss = self._anchor.new_zeros(())
        for unit in self._units(wanted):
            if isinstance(unit, Fused):
                unit.run(values)
                continue
            if not unit.layer.is_source:
                unit.run(values)
            for index, weight in zip(unit.tops, unit.loss_weights, strict=True):
                if weight:
                    loss = loss + weight * values[index].sum()
        return values, loss

    def _units(self, wanted: Iterable[int]) -> Sequence[Step | Fused]:
        """What to run, one after the other, to get the outputs and the ``wanted`` blobs."""
        if not self.fast:
            return [step for step in self.steps if id(step) not in self._left_out] if self._left_out else self.steps
        if self._fast_units is None:
            chains = find_chains([step for step in self.steps if id(step) not in self._left_out])
            self._fast_units = [find_towers(chains), list(chains)]
        wanted = set(wanted)
        for units in self._fast_units[0 if self.device.type in TOWER_DEVICES else 1 :]:
            if not any(isinstance(unit, Fused) and unit.hidden & wanted for unit in units):
                return units
        return [step for step in self.steps if id(step) not in self._left_out]

    def _source_values(self, given: Mapping[str, Tensor]) -> dict[int, Tensor]:
        values: dict[int, Tensor] = {}
        used = 0
        for step, indices in zip(self._sources, self._source_tops, strict=True):
            names = [self.blob_names[i] for i in indices]
            known = [name for name in names if name in given]
            used += len(known)
            if len(known) == len(names):
                tops = tuple(given[name] for name in names)
            elif known and not step.layer.is_input:
                missing = ", ".join(name for name in names if name not in given)
                step.layer.fail(f"{', '.join(known)} given but not {missing}: give every top of a data layer, or none")
            else:
                held = self._next_batch(step)
                tops = tuple(given.get(name, value) for name, value in zip(names, held, strict=True))
            for index, value in zip(indices, tops, strict=True):
                values[index] = self._place(value)
        if used != len(given):
            self._refuse_unknown(given)
        if any(tuple(value.shape) != self._shapes[index] for index, value in values.items()):
            self.infer_all({index: tuple(value.shape) for index, value in values.items()})
        return values

    def _next_batch(self, step: Step) -> tuple[Tensor, ...]:
        try:
            return step.layer.next_batch()
        except (MemoryError, RuntimeError) as error:
            shapes = " and ".join(str(self._shapes[i]) for i in step.tops)
            step.layer.fail_without_memory(error, f"a batch of {shapes}")
            raise

    def _refuse_unknown(self, given: Mapping[str, Tensor]) -> None:
        names = self._source_names()
        unknown = [name for name in given if name not in names]
        raise NetError(
            f"{self.source}: {unknown[0]!r} is not an input of this net; inputs are {', '.join(names) or 'none'}"
        )

    def _place(self, value: Any) -> Tensor:
        return torch.as_tensor(value).to(self.device, self.dtype, non_blocking=True)

    # -- shapes -------------------------------------------------------------------------

    def reshape(self, /, **input_shapes: Shape) -> None:
        """Set new input shapes and infer all others; NetError names the layer that cannot fit."""
        sources = {self.blob_names[i]: i for tops in self._source_tops for i in tops}
        for name in input_shapes:
            if name not in sources:
                raise NetError(f"{self.source}: {name!r} is not an input; inputs are {', '.join(sources)}")
        known = {index: tuple(input_shapes.get(name, self._shapes[index])) for name, index in sources.items()}
        self.infer_all(known)

    def infer_all(self, known: Mapping[int, Shape]) -> None:
        """Infer every shape from those of the source blobs, given by blob number."""
        before = list(self._shapes)
        try:
            for index, shape in known.items():
                self._shapes[index] = tuple(shape)
            for step in self.steps:
                if step.layer.is_source and not self._left_out:
                    self.graph.set_top_shapes(step, [known[i] for i in step.tops])
                elif not step.layer.is_source and id(step) not in self._left_out:
                    self.graph.set_top_shapes(step, step.layer.infer_shapes(*(self._shapes[i] for i in step.bottoms)))
            self._memory_checked = False
        except NetError:
            self._shapes[:] = before
            raise

    def check_memory(self) -> None:
        """NetError, with the layer of the largest, where the blobs that a pass makes do not fit into the host's memory.

        A pass looks once after each change of shapes; on a GPU its allocator tells.
        """
        self._memory_checked = True
        largest = self._largest_blob()
        if largest is not None and self.device.type == "cpu":
            layer, what, total = largest
            layer.check_memory(f"a pass, whose largest blob is {what},", total)

    def fail_without_memory(self, error: BaseException, doing: str) -> None:
        """NetError that names the largest blob where ``error`` says that there is no memory; nothing for others."""
        largest = self._largest_blob()
        if largest is not None:
            layer, what, _ = largest
            layer.fail_without_memory(error, f"{doing}; the largest blob is {what}")

    def _largest_blob(self) -> tuple[Layer, str, int] | None:
        """The layer that makes it, its name and shape, and how many bytes all that have memory of their own take."""
        found: dict[int, tuple[int, Layer]] = {}
        for unit in self._units(()):
            step = unit.steps[-1] if isinstance(unit, Fused) else unit
            if step.shared_memory is None and not step.layer.is_source:
                for index in step.tops:
                    found.setdefault(index, (count(self._shapes[index]), step.layer))
        if not found:
            return None
        index = max(found, key=lambda i: found[i][0])
        total = sum(values for values, _ in found.values()) * self.dtype.itemsize
        return found[index][1], f'top "{self.blob_names[index]}" of shape {self._shapes[index]}', total

    # -- weights ------------------------------------------------------------------------

    def copy_from(
        self,
        weights: str | os.PathLike[str] | caffe_pb2.NetParameter,
        *,
        strict: bool = False,
        reshape: Collection[str] = (),
        warn: bool = True,
    ) -> CopyReport:
        """Copy parameters by layer name from a file or NetParameter, by Caffe's rules.

        Layers with blobs that this net lacks are ignored, layers that the file lacks keep their values: one warning
        names both; ``warn=False`` leaves that to the caller, who has the report.  ``strict``: NetError in such a case.
        ``reshape``: layers whose blobs are taken as they lie where only their shape differs (an InnerProduct's for
        the Convolution that does the same); any other shape that differs is a NetError.  So is a file of which
        nothing fits.  After a NetError the net is as it was.
        """
        report = copy_weights(self.graph, weights, strict=strict, reshape=reshape)
        if warn and report.differences():
            origin = os.fspath(weights) if isinstance(weights, str | os.PathLike) else "<message>"
            warnings.warn(
                printable(f"{origin}: does not fit {self.source} wholly: {report.differences()}"), stacklevel=2
            )
        return report

    @property
    def repeated_names(self) -> list[str]:
        """Names of layers with parameters that other layers have, too: their weights can be saved, but not copied."""
        return repeated_names(self.graph)

    def share_with(self, other: "Net") -> list[str]:
        """Use the parameters of ``other``'s layers of the same name in place of our own, as a
        solver's test nets do.  NetError where counts or shapes differ.

        Returns the names of our layers with parameters that find no fellow and keep their own.
        """
        return share_weights(self.graph, other.graph)

    def save(self, path: str | os.PathLike[str], hdf5: bool | None = None, *, diffs: bool = False) -> None:
        """Write parameters so that Caffe can read them: HDF5 when ``hdf5``, or when it is None and
        the name ends in ``.h5``; a binary caffemodel otherwise.  ``diffs``: their gradients, too.

        Warns where layers share a name (or have none): they are saved layer by layer, but weights are copied by name.
        HDF5 cannot hold such a net: NetError.
        """
        save_weights(self.graph, path, hdf5=os.fspath(path).endswith(".h5") if hdf5 is None else hdf5, diffs=diffs)

    def close(self) -> None:
        """Release the data layers' files and threads."""
        for step in self._sources:
            step.layer.close()

    def sources(self) -> Iterator[Layer]:
        """The source layers, in order (for saving and restoring their positions)."""
        return (step.layer for step in self._sources)
