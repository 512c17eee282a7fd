"""pycaffe's ``Net``."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from caffe_compat.data.layers.memory_data import MemoryData
from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.net import Net as CoreNet
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe import mode
from caffe_compat.pycaffe.blob import Blob

Arrays = dict[str, np.ndarray]


class LayerView:
    """A layer as ``net.layers[i]`` shows it."""

    def __init__(self, layer: Layer, blobs: list[Blob]) -> None:
        self.layer = layer
        self.type = layer.type
        self.blobs = blobs


class Net:
    """``Net(model, phase, level=0, stages=None, weights=None)``, or the old forms
    ``Net(model, weights, phase)`` and ``Net(model, phase)``; phase is TRAIN or TEST."""

    def __init__(
        self,
        network_file: str | os.PathLike[str],
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        for arg in args:
            if isinstance(arg, str | os.PathLike) and weights is None:
                weights = arg
            elif isinstance(arg, int) and phase is None:
                phase = arg
            else:
                raise NetError(f"Net({network_file!r}, ...): unexpected argument {arg!r}; expected weights and phase")
        if phase is None:
            raise NetError(f"Net({network_file!r}, ...): the phase is missing; pass TRAIN or TEST")
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
    def of(cls, core: CoreNet) -> "Net":
        """The facade over a net that exists already (a solver's)."""
        self = cls.__new__(cls)
        self._attach(core)
        return self

    def _attach(self, core: CoreNet) -> None:
        self.core = core
        self.engine = BlobEngine(core)
        blobs = [Blob(b) for b in self.engine.blobs]
        self.blobs: OrderedDict[str, Blob] = OrderedDict(zip(core.blob_names, blobs, strict=True))
        self.layers = [
            LayerView(step.layer, [Blob(p) for p in params])
            for step, params in zip(core.steps, self.engine.params, strict=True)
        ]
        self._layer_names = [step.layer.name for step in core.steps]
        self.layer_dict = OrderedDict(zip(self._layer_names, self.layers, strict=True))
        self.params: OrderedDict[str, list[Blob]] = OrderedDict(
            (name, view.blobs) for name, view in zip(self._layer_names, self.layers, strict=True) if view.blobs
        )
        self.inputs = list(core.inputs)
        self.outputs = list(core.outputs)
        self.top_names = self._names_by_layer("tops")
        self.bottom_names = self._names_by_layer("bottoms")
        weights = {i: w for step in core.steps for i, w in zip(step.tops, step.loss_weights, strict=True)}
        self.blob_loss_weights = OrderedDict((name, weights.get(i, 0.0)) for i, name in enumerate(core.blob_names))

    def _names_by_layer(self, which: str) -> "OrderedDict[str, list[str]]":
        return OrderedDict(
            (step.layer.name, [self.core.blob_names[i] for i in getattr(step, which)]) for step in self.core.steps
        )

    # -- passes -------------------------------------------------------------------------

    def forward(
        self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> Arrays:
        """Run the net, or its layers ``start`` to ``end``; keywords set all input blobs.

        Returns the output blobs (with ``end``: that layer's tops) and those named in ``blobs``.
        """
        first = 0 if start is None else self._index(start)
        last = len(self.layers) - 1 if end is None else self._index(end)
        self._set_all(inputs, self.inputs, "data")
        self.write_back()
        self.engine.forward(first, last)
        names = [*(self.outputs if end is None else self.top_names[end]), *(blobs or [])]
        return {name: self.blobs[name].data for name in names}

    def backward(
        self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **outputs: Any
    ) -> Arrays:
        """Run backward from layer ``start`` (default: the last) down to ``end``; keywords set the
        diffs of all output blobs.  Returns the inputs' diffs (with ``end``: that layer's bottoms')."""
        first = len(self.layers) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        self._set_all(outputs, self.outputs, "diff")
        self.write_back()
        self.engine.backward(first, last)
        names = [*(self.inputs if end is None else self.bottom_names[end]), *(diffs or [])]
        return {name: self.blobs[name].diff for name in names}

    def _index(self, layer_name: str) -> int:
        if layer_name not in self._layer_names:
            known = ", ".join(self._layer_names)
            raise NetError(f"{self.core.source}: no layer named {layer_name!r}; there are {known}")
        return self._layer_names.index(layer_name)

    def _set_all(self, given: Mapping[str, Any], expected: Sequence[str], which: str) -> None:
        if not given:
            return
        if set(given) != set(expected):
            raise NetError(f"{self.core.source}: got {sorted(given)}; expected all of {sorted(expected)}")
        for name, value in given.items():
            target = getattr(self.blobs[name], which)
            if len(value) != len(target):
                raise NetError(
                    f"{self.core.source}: blob {name!r} has batch size {len(target)}, the array has {len(value)}; "
                    "reshape the blob or use forward_all"
                )
            target[...] = value

    def write_back(self) -> None:
        """Copy what the caller may have written to blobs (GPU only) to the device."""
        for blob in self.blobs.values():
            blob.write_back()
        for view in self.layers:
            for param in view.blobs:
                param.write_back()

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> Arrays:
        """Run any number of inputs in batches of the net's size, the last one padded with zeros."""
        collected: dict[str, list[np.ndarray]] = {}
        for batch, used in self._batches(inputs):
            for name, value in self.forward(blobs, None, None, **batch).items():
                collected.setdefault(name, []).append(value[:used].copy() if value.ndim else value[None].copy())
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    def _batches(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[Arrays, int]]:
        size = self.blobs[self.inputs[0]].shape[0]
        total = len(next(iter(arrays.values())))
        for start in range(0, total, size):
            used = min(size, total - start)
            batch = {}
            for name, array in arrays.items():
                part = np.asarray(array[start : start + used])
                padding = np.zeros((size - used, *part.shape[1:]), part.dtype)
                batch[name] = np.concatenate([part, padding])
            yield batch, used

    def reshape(self) -> None:
        """Carry the input blobs' shapes through the net."""
        self.engine.reshape()

    def clear_param_diffs(self) -> None:
        """Zero all parameter diffs."""
        self.engine.clear_param_diffs()

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give the net's MemoryData layer its images (N, C, H, W) and labels (N)."""
        for view in self.layers:
            if isinstance(view.layer, MemoryData):
                view.layer.reset(data, np.reshape(labels, -1))
                return
        raise NetError(f"{self.core.source}: no MemoryData layer; set_input_arrays is for nets that have one")

    # -- weights ------------------------------------------------------------------------

    def copy_from(self, path: str | os.PathLike[str]) -> None:
        """Copy parameters by layer name from a caffemodel (binary or HDF5); warns of what does not fit."""
        self.core.copy_from(path)

    load_hdf5 = copy_from

    def share_with(self, other: "Net") -> None:
        """Use the parameters of ``other``'s layers of the same name."""
        self.core.share_with(other.core)
        self._attach(self.core)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a binary caffemodel, whatever the name."""
        self.core.save(path, hdf5=False)

    def save_hdf5(self, path: str | os.PathLike[str]) -> None:
        """Write HDF5 weights, whatever the name."""
        self.core.save(path, hdf5=True)
