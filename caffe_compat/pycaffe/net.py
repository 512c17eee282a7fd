"""pycaffe's ``Net``."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
from torch import Tensor

from caffe_compat.data.layers.memory_data import MemoryData
from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.python import Python
from caffe_compat.net import Net as CoreNet
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.net.blobs import Place
from caffe_compat.net.weights import share_values
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe import mode
from caffe_compat.pycaffe.arrays import Arrays
from caffe_compat.pycaffe.blob import Blob, BlobVec

Callback = Callable[[int], object]

DECONV_TYPES = ("Zeiler & Fergus", "Guided Backprop")


class UnknownLayerError(NetError, ValueError):
    """A layer that the net does not have: scripts catch ValueError."""


class LayerView:
    """A layer as ``net.layers[i]`` shows it; a Python layer shows itself."""

    def __init__(self, layer: Layer, blobs: BlobVec) -> None:
        self.layer = layer
        self.type = layer.type
        self.blobs = blobs


class Net:
    """``Net(model, phase, level=0, stages=None, weights=None)``, or the old form
    ``Net(model, weights, phase)``; phase is TRAIN or TEST."""

    def __init__(
        self,
        network_file: str | os.PathLike[str],
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        names = ["phase", "level", "stages", "weights"]
        if args and isinstance(args[0], str | os.PathLike):
            names = ["weights", "phase"]
        given: dict[str, Any] = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            raise NetError(f"Net({network_file!r}, ...): unexpected argument {args[len(names)]!r}")
        phase, level = given.get("phase", phase), given.get("level", level)
        stages, weights = given.get("stages", stages), given.get("weights", weights)
        if phase is None:
            raise NetError(f"Net({network_file!r}, ...): the phase is missing; pass TRAIN or TEST")
        if not isinstance(phase, int) or phase not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
            raise NetError(f"Net({network_file!r}, ...): unexpected phase {phase!r}; pass TRAIN or TEST")
        core = CoreNet(
            network_file,
            phase=caffe_pb2.Phase.Name(phase),
            level=level,
            stages=stages or (),
            solver_rank=mode.solver_rank(),
            solver_count=mode.solver_count(),
            allow_python_layers=True,  # as in Caffe: who calls this runs Python of their own already
        ).to(mode.device())
        self._attach(core)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, core: CoreNet, place: Place | None = None) -> "Net":
        """The facade over a net that exists already (a solver's); ``place`` as in ``BlobEngine``."""
        self = cls.__new__(cls)
        self._attach(core, place)
        return self

    def _attach(self, core: CoreNet, place: Place | None = None) -> None:
        self.core = core
        self.engine = BlobEngine(core, place)
        self.engine.lead_inputs()
        names = core.blob_names
        weights: dict[int, float] = {}
        for step in core.steps:
            weights.update(zip(step.tops, step.loss_weights, strict=True))
        blobs = [Blob(blob) for blob in self.engine.blobs]
        self._blobs = BlobVec(blobs)
        self._blob_names = list(names)
        self._layer_names = [step.layer.name for step in core.steps]
        self._blob_loss_weights = [weights.get(i, 0.0) for i in range(len(names))]
        self._inputs = [names.index(name) for name in core.inputs]
        self._outputs = [names.index(name) for name in core.outputs]
        self.layers: list[Any] = [
            run.layer.user
            if isinstance(run.layer, Python)
            else LayerView(run.layer, BlobVec((Blob(param) for param in run.params), run))
            for run in self.engine.runs
        ]
        self._index_of = {name: i for i, name in reversed(list(enumerate(self._layer_names)))}
        self._callbacks: dict[str, list[Callback]] = {}
        #: by name, from bottom to top
        self.blobs: OrderedDict[str, Blob] = OrderedDict(zip(names, blobs, strict=True))
        self.blob_loss_weights = OrderedDict(zip(names, self._blob_loss_weights, strict=True))
        self.layer_dict = OrderedDict(zip(self._layer_names, self.layers, strict=True))
        self.params: OrderedDict[str, BlobVec] = OrderedDict(
            (name, layer.blobs) for name, layer in self.layer_dict.items() if len(layer.blobs)
        )
        self.inputs, self.outputs = list(core.inputs), list(core.outputs)
        self.top_names = OrderedDict((name, self._names(self._top_ids(i))) for i, name in enumerate(self._layer_names))
        self.bottom_names = OrderedDict(
            (name, self._names(self._bottom_ids(i))) for i, name in enumerate(self._layer_names)
        )

    def _names(self, ids: Sequence[int]) -> list[str]:
        return [self._blob_names[i] for i in ids]

    def _top_ids(self, layer: int) -> list[int]:
        """The numbers of a layer's tops among ``_blobs``."""
        return list(self.core.steps[layer].tops)

    def _bottom_ids(self, layer: int) -> list[int]:
        """The numbers of a layer's bottoms among ``_blobs``."""
        return list(self.core.steps[layer].bottoms)

    # -- passes -------------------------------------------------------------------------

    def forward(
        self, /, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """Run the net, or its layers ``start`` to ``end``; keywords set all input blobs.

        Returns the output blobs (with ``end``: that layer's tops) and those named in ``blobs``.
        """
        first = 0 if start is None else self._index(start)
        last = len(self.layers) - 1 if end is None else self._index(end)
        wanted = self._known([*(self.outputs if end is None else self.top_names[end]), *(blobs or [])])
        self._set_all(inputs, self.inputs, "data")
        self._forward(first, last)
        return self._arrays(wanted, "data")

    def backward(
        self, /, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **outputs: Any
    ) -> dict[str, np.ndarray]:
        """Run backward from layer ``start`` (default: the last) down to ``end``; keywords set the
        diffs of all output blobs.  Returns the inputs' diffs (with ``end``: that layer's bottoms')."""
        first = len(self.layers) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        wanted = self._known([*(self.inputs if end is None else self.bottom_names[end]), *(diffs or [])])
        self._set_all(outputs, self.outputs, "diff")
        self._backward(first, last)
        return self._arrays(wanted, "diff")

    def run_all(self) -> float:
        """Run all layers; returns the loss."""
        return self._forward(0, len(self.layers) - 1)

    def run_all_backward(self) -> None:
        """Run backward through all layers."""
        self._backward(len(self.layers) - 1, 0)

    def output_tensors(self) -> dict[str, Tensor]:
        """The output blobs on the net's device."""
        return {name: self.engine.blobs[i].read_data() for name, i in zip(self.outputs, self._outputs, strict=True)}

    def _forward(self, start: int, end: int) -> float:
        """Run the layers with these numbers, both included; returns their loss."""
        if not self._callbacks:
            return self.engine.forward(start, end)
        loss = 0.0
        for number in range(start, end + 1):
            self._call("before_forward", number)
            loss += self.engine.forward(number, number)
            self._call("after_forward", number)
        return loss

    def _backward(self, start: int, end: int) -> None:
        """Run backward from layer number ``start`` down to ``end``, both included."""
        if not self._callbacks:
            self.engine.backward(start, end)
            return
        for number in range(start, end - 1, -1):
            self._call("before_backward", number)
            self.engine.backward_layer(number)
            self._call("after_backward", number)

    # -- what a unit sees (Yosinski's fork of Caffe) ---------------------------------------

    def backward_from_layer(
        self, start_name: str, start_diff: np.ndarray, diffs: Sequence[str] | None = None, zero_higher: bool = False
    ) -> dict[str, np.ndarray]:
        """Backward from layer ``start_name``, whose top gets ``start_diff`` as its diff; ``zero_higher``: set those of
        the blobs above to 0.  Returns what ``backward`` returns."""
        self._set_start(start_name, start_diff, zero_higher=zero_higher)
        return self.backward(diffs, start_name)

    def deconv_from_layer(  # as scripts call it
        self,
        start_name: str,
        start_diff: np.ndarray,
        diffs: Sequence[str] | None = None,
        zero_higher: bool = False,
        deconv_type: str = "Zeiler & Fergus",
    ) -> dict[str, np.ndarray]:
        """The same as a deconvnet goes back, or by "Guided Backprop"; the diffs of parameters stay as they are."""
        if deconv_type not in DECONV_TYPES:
            raise NetError(f"deconv_type is {deconv_type!r}; expected {' or '.join(map(repr, DECONV_TYPES))}")
        wanted = self._known([*self.inputs, *(diffs or [])])
        self._set_start(start_name, start_diff, zero_higher=zero_higher)
        for number in range(self._index(start_name), -1, -1):
            self.engine.deconv_layer(number, guided=deconv_type == DECONV_TYPES[1])
        return self._arrays(wanted, "diff")

    def _set_start(self, name: str, diff: np.ndarray, *, zero_higher: bool) -> None:
        top = self._top_ids(self._index(name))[0]
        blob = self._blobs[top]
        if np.shape(diff) != blob.shape:
            raise NetError(
                f"{self.core.source}: the diff for {name!r} has shape {np.shape(diff)}; expected {blob.shape}"
            )
        blob.diff[...] = diff
        for higher in self._blobs[top + 1 :] if zero_higher else ():
            higher.diff[...] = 0

    def _call(self, moment: str, number: int) -> None:
        for function in self._callbacks.get(moment, ()):
            function(number)

    def before_forward(self, function: Callback) -> None:
        """Call ``function(layer number)`` before each layer's forward."""
        self._callbacks.setdefault("before_forward", []).append(function)

    def after_forward(self, function: Callback) -> None:
        """Call ``function(layer number)`` after each layer's forward."""
        self._callbacks.setdefault("after_forward", []).append(function)

    def before_backward(self, function: Callback) -> None:
        """Call ``function(layer number)`` before each layer's backward."""
        self._callbacks.setdefault("before_backward", []).append(function)

    def after_backward(self, function: Callback) -> None:
        """Call ``function(layer number)`` after each layer's backward."""
        self._callbacks.setdefault("after_backward", []).append(function)

    def _index(self, layer_name: str) -> int:
        if layer_name not in self._index_of:
            known = ", ".join(self._layer_names)
            raise UnknownLayerError(f"{self.core.source}: no layer named {layer_name!r}; there are {known}")
        return self._index_of[layer_name]

    def _known(self, names: Sequence[str]) -> list[str]:
        for name in names:
            if name not in self.blobs:
                raise KeyError(f"{self.core.source}: no blob named {name!r}; there are {', '.join(self.blobs)}")
        return list(dict.fromkeys(names))

    def _arrays(self, names: Sequence[str], which: str) -> dict[str, np.ndarray]:
        if self.engine.place.apart:
            # A blob comes to the host when somebody looks at it.
            return Arrays({name: partial(getattr, self.blobs[name], which) for name in names})
        return {name: getattr(self.blobs[name], which) for name in names}

    def _set_all(self, given: Mapping[str, Any], expected: Sequence[str], which: str) -> None:
        if not given:
            return
        if set(given) != set(expected):
            raise NetError(f"{self.core.source}: got {sorted(given)}; expected all of {sorted(expected)}")
        for name, value in given.items():
            shape = self.blobs[name].shape
            if shape and len(value) != shape[0]:
                raise NetError(
                    f"{self.core.source}: blob {name!r} has batch size {shape[0]}, the array has {len(value)}; "
                    "reshape the blob or use forward_all"
                )
        for name, value in given.items():
            getattr(self.blobs[name], which)[...] = value

    def forward_all(self, /, blobs: Sequence[str] | None = None, **inputs: Any) -> dict[str, np.ndarray]:
        """Run any number of inputs in batches of the net's size, the last one padded with zeros."""
        collected: dict[str, list[np.ndarray]] = {}
        for batch in self._batch(inputs):
            _collect(collected, self.forward(blobs, None, None, **batch))
        return _joined(collected, _length(inputs))

    def forward_backward_all(
        self, /, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **arrays: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run forward and backward over any number of inputs (and of the outputs' diffs), in batches of the net's
        size, the last one padded with zeros; returns the blobs and the diffs."""
        all_blobs: dict[str, list[np.ndarray]] = {}
        all_diffs: dict[str, list[np.ndarray]] = {}
        forward = self._batch({name: arrays[name] for name in self.inputs if name in arrays})
        backward = self._batch({name: arrays[name] for name in self.outputs if name in arrays})
        nothing: dict[str, np.ndarray] = {}
        for inputs, outputs in zip_longest(forward, backward, fillvalue=nothing):
            _collect(all_blobs, self.forward(blobs, None, None, **inputs))
            _collect(all_diffs, self.backward(diffs, None, None, **outputs))
        total = _length(arrays)
        return _joined(all_blobs, total), _joined(all_diffs, total)

    def _batch(self, arrays: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Cut into batches of the net's size (that of its first blob)."""
        size = self._blobs[0].shape[0]
        total = _length(arrays)
        for start in range(0, total, size):
            batch = {}
            for name, array in arrays.items():
                part = np.asarray(array[start : start + size])
                padding = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
                batch[name] = np.concatenate([part, padding])
            yield batch

    def reshape(self) -> None:
        """Carry the input blobs' shapes through the net."""
        self.engine.reshape()

    def clear_param_diffs(self) -> None:
        """Zero all parameter diffs."""
        self.engine.clear_param_diffs()

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give the net's MemoryData layer its images (N, C, H, W) and labels (N)."""
        for step in self.core.steps:
            if isinstance(step.layer, MemoryData):
                step.layer.reset(data, np.reshape(labels, -1))
                return
        raise NetError(f"{self.core.source}: no MemoryData layer; set_input_arrays is for nets that have one")

    _set_input_arrays = set_input_arrays

    # -- weights ------------------------------------------------------------------------

    def copy_from(self, path: str | os.PathLike[str]) -> None:
        """Copy parameters by layer name from a caffemodel (binary or HDF5); warns of what does not fit."""
        self.engine.flush()
        self.core.copy_from(path)

    load_hdf5 = copy_from

    def share_with(self, other: "Net") -> None:
        """Let the parameters of layers of the same name be ``other``'s; the diffs stay two."""
        self.engine.flush()
        other.engine.flush()
        share_values(self.core.graph, other.core.graph)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a binary caffemodel, whatever the name."""
        self.engine.flush()
        self.core.save(path, hdf5=False)

    def save_hdf5(self, path: str | os.PathLike[str]) -> None:
        """Write HDF5 weights, whatever the name."""
        self.engine.flush()
        self.core.save(path, hdf5=True)


def _length(arrays: Mapping[str, Any]) -> int:
    return len(next(iter(arrays.values()))) if arrays else 0


def _collect(collected: dict[str, list[np.ndarray]], arrays: Mapping[str, np.ndarray]) -> None:
    for name, value in arrays.items():
        collected.setdefault(name, []).append(np.atleast_1d(value).copy())


def _joined(collected: Mapping[str, list[np.ndarray]], total: int) -> dict[str, np.ndarray]:
    """The batches of each blob as one array, without what padded the last batch."""
    result = {}
    for name, parts in collected.items():
        whole = np.concatenate(parts)
        result[name] = whole[:total] if len(whole) > total and len(parts[0]) > 1 else whole
    return result
