"""Parameters in and out of a net's graph: copied by layer name, saved as Caffe saves them."""

import math
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from caffe_compat import proto
from caffe_compat.errors import NetError, printable
from caffe_compat.layers.base import Layer
from caffe_compat.net.graph import Graph
from caffe_compat.proto import (
    LayerWeights,
    caffe_pb2,
    is_hdf5,
    message_weights,
    read_caffemodel,
    write_caffemodel,
)


@dataclass
class CopyReport:
    """What ``Net.copy_from`` did, by layer name."""

    copied: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # in the source, not in this net
    missing: list[str] = field(default_factory=list)  # with a parameter here that got no value
    unused: list[str] = field(default_factory=list, compare=False)  # those of ``ignored`` that hold blobs
    repeated: list[str] = field(default_factory=list, compare=False)  # those of ``missing`` that several layers have

    def differences(self) -> str:
        """Both lists in words: blobs that no layer took, layers that got none; "" where all fits."""
        parts = []
        if self.unused:
            parts.append(f"ignored, as the net has no such layer: {_listed(self.unused)}")
        if self.missing:
            parts.append(f"left as they were, as no blobs came for them: {_listed(self.missing)}")
        if self.repeated:
            parts.append(f"several layers have the name {_listed(self.repeated)}, and one of them takes all blobs")
        return "; ".join(parts)


def copy_weights(
    graph: Graph,
    source: str | os.PathLike[str] | caffe_pb2.NetParameter,
    *,
    strict: bool = False,
    reshape: Collection[str] = (),
    look_only: bool = False,
) -> CopyReport:
    """Caffe's CopyTrainedLayersFrom; see ``Net.copy_from``.  Nothing is changed when anything does not fit.

    ``look_only``: nothing is changed in any case.
    """
    if not isinstance(source, str | os.PathLike):
        layers, origin, hdf5 = message_weights(source), "<message>", False
    elif is_hdf5(source):
        layers, origin, hdf5 = proto.read_hdf5_weights(source), os.fspath(source), True
    else:
        layers, origin, hdf5 = read_caffemodel(source), os.fspath(source), False
    unknown = sorted(set(reshape) - set(graph.params))
    if unknown:
        raise NetError(
            f"{graph.context.source.name}: has no layer {_listed(unknown)} whose blobs could be reshaped; its layers "
            f"with parameters are {_listed(graph.params)}"
        )
    report = CopyReport()
    plan: list[tuple[Tensor, np.ndarray]] = []
    # Of equal names Caffe takes the first layer; for HDF5, where it looks into another index, the last.
    steps = graph.steps if hdf5 else reversed(graph.steps)
    targets = {step.layer.name: step.layer for step in steps}
    for weights in layers:
        layer = targets.get(weights.name)
        if layer is None:
            report.ignored.append(weights.name)
            if weights.blobs:
                report.unused.append(weights.name)
            continue
        plan += _Match(graph, layer, weights, origin).blobs(partial=hdf5, reshape=weights.name in reshape)
        if weights.blobs:
            report.copied.append(weights.name)
    reached = {id(target) for target, _ in plan}
    report.missing = [
        step.layer.name for step in graph.steps if any(id(blob) not in reached for blob in step.layer.blobs)
    ]
    report.repeated = [name for name in repeated_names(graph) if name in report.missing]
    _refuse(graph, layers, report, origin, strict)
    if look_only:
        return report
    with torch.no_grad():
        for target, array in plan:
            target.copy_(torch.from_numpy(np.array(array, copy=True)).view(target.shape))
    return report


def _refuse(graph: Graph, layers: list[LayerWeights], report: CopyReport, origin: str, strict: bool) -> None:
    """NetError where nothing at all would be copied, or, if ``strict``, not everything."""
    model = graph.context.source.name
    if graph.params and not report.copied:
        raise NetError(
            f"{origin}: nothing fits {model}: the file has blobs for the layers {_listed_some(layers)}, the net's "
            f"layers with parameters are {_listed(graph.params)}; weights are copied by layer name, so give the "
            "right file, or the layers the names of the file"
        )
    if strict and report.differences():
        raise NetError(f"{origin}: does not fit {model} wholly, and nothing is copied: {report.differences()}")


def _listed_some(layers: list[LayerWeights], most: int = 20) -> str:
    """The names of the layers that hold blobs; of very many only the first."""
    names = [weights.name for weights in layers if weights.blobs]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (_listed(names[:most]) or "none") + more


@dataclass(frozen=True)
class _Match:
    """A layer of a file and the net's layer of that name."""

    graph: Graph
    layer: Layer
    weights: LayerWeights
    origin: str

    def blobs(self, *, partial: bool, reshape: bool) -> list[tuple[Tensor, np.ndarray]]:
        """Which array goes where.  ``partial``: the file may leave out what is shared; ``reshape``: counts decide."""
        layer, weights = self.layer, self.weights
        absent = {i for i in range(len(layer.blobs)) if i >= len(weights.blobs) or weights.blobs[i] is None}
        shared = {i for i in absent if partial and _is_shared(self.graph, layer.name, i)}
        if len(weights.blobs) > len(layer.blobs) or absent - shared:
            self._fail(
                f"has {sum(b is not None for b in weights.blobs)} parameter blob(s), the net's layer "
                f"({self.graph.context.source.name}) has {len(layer.blobs)}; {self._cure()}"
            )
        matched: list[tuple[Tensor, np.ndarray]] = []
        for i, (target, array) in enumerate(zip(layer.blobs, weights.blobs, strict=False)):
            if array is not None:
                self._check_shape(i, array, reshape)
                matched.append((target, array))
        return matched

    def _check_shape(self, i: int, array: np.ndarray, reshape: bool) -> None:
        ours = self.layer.blob_shapes[i]
        same_count = array.size == math.prod(ours)
        if _shapes_agree(ours, array.shape, self.weights.legacy[i]) or (reshape and same_count):
            return
        name = self.layer.name
        self._fail(
            f"param {i} has shape {tuple(array.shape)} in the file and {ours} in the net "
            f"({self.graph.context.source.name}); "
            + (
                f"both hold {array.size} values: if their order is the same, as it is in an InnerProduct and the "
                f'Convolution over its whole bottom, take them with copy_from(..., reshape=["{name}"]) or '
                f"--reshape={name}; else {self._cure()}"
                if same_count and not reshape
                else f"{self._cure()} instead of copying it"
            )
        )

    def _cure(self) -> str:
        if self.layer.name in repeated_names(self.graph):
            return "the net has several layers of this name; give each a name of its own, in the file's net, too"
        return "rename the layer to train it from scratch"

    def _fail(self, message: str) -> NoReturn:
        raise NetError(f'{self.origin}: layer "{self.weights.name}": {message}')


def _shapes_agree(ours: tuple[int, ...], theirs: tuple[int, ...], legacy: bool) -> bool:
    if legacy:
        # Files before BlobShape always hold 4 numbers; missing leading axes are 1.
        return len(ours) <= 4 and (1,) * (4 - len(ours)) + tuple(ours) == tuple(theirs)
    return tuple(ours) == tuple(theirs)


def _is_shared(graph: Graph, layer_name: str, index: int) -> bool:
    return not any(p.layer == layer_name and p.index == index for p in graph.learnable)


def share_weights(graph: Graph, other: Graph) -> list[str]:
    """See ``Net.share_with``.  Nothing is shared when anything does not fit."""
    plan = _sharing(graph, other)
    for layer, i, parameter in plan:
        layer.share_blob(i, parameter)
    sharing = {id(layer) for layer, _, _ in plan}
    return [step.layer.name for step in graph.steps if step.layer.blobs and id(step.layer) not in sharing]


def share_values(graph: Graph, other: Graph) -> None:
    """Caffe's ShareTrainedLayersWith: the values are one memory from now on, parameters and gradients stay two."""
    for layer, i, parameter in _sharing(graph, other):
        own = layer.blobs[i]
        own.data = parameter.data.view(own.shape)


def _sharing(graph: Graph, other: Graph) -> list[tuple[Layer, int, nn.Parameter]]:
    """Which parameter of ``other`` goes to which place of which layer of ours; NetError where it does not fit."""
    plan = []
    ours = {step.layer.name: step.layer for step in reversed(graph.steps)}
    for step in other.steps:
        source, layer = step.layer, ours.get(step.layer.name)
        if layer is None:
            continue
        if len(layer.blobs) != len(source.blobs):
            layer.fail(f"has {len(layer.blobs)} parameter blob(s), the layer to share with has {len(source.blobs)}")
        for i, parameter in enumerate(source.blobs):
            if layer.blob_shapes[i] != source.blob_shapes[i]:
                layer.fail(
                    f"cannot share param {i}: its shape is {layer.blob_shapes[i]}, "
                    f"the other net's {source.blob_shapes[i]}"
                )
            plan.append((layer, i, parameter))
    return plan


def save_weights(graph: Graph, path: str | os.PathLike[str], *, hdf5: bool, diffs: bool = False) -> None:
    """Write all parameters, with ``diffs`` also their gradients.  The file is whole or absent.

    A caffemodel has them layer by layer, whatever the names; HDF5 knows a layer by its name only.
    """
    layers = [step.layer for step in graph.steps]
    repeated = repeated_names(graph)
    if hdf5 and repeated:
        raise NetError(
            f"{os.fspath(path)}: HDF5 files know a layer by its name, and {_listed(repeated)} is no layer's own in "
            f"{graph.context.source.name}; give each layer a name of its own, or save as .caffemodel"
        )
    if repeated:
        warnings.warn(
            printable(
                f"{os.fspath(path)}: layers of {graph.context.source.name} share the name {_listed(repeated)}; the "
                "file has the parameters of each, but Caffe and caffe_compat copy by name, all to one of them, so "
                "that it cannot be restored; give each layer a name of its own"
            ),
            stacklevel=3,
        )
    values = [[_to_array(p, s) for p, s in zip(layer.blobs, layer.blob_shapes, strict=True)] for layer in layers]
    gradients = [
        [_to_array(_gradient(p), s) for p, s in zip(layer.blobs, layer.blob_shapes, strict=True)]
        for layer in (layers if diffs else ())
    ]
    if hdf5:
        proto.write_hdf5_weights(path, _owned(graph, values), _owned(graph, gradients) if diffs else None)
        return
    param = type(graph.param)(name=graph.param.name)
    param.layer.extend(graph.param.layer)
    write_caffemodel(path, param, values, gradients if diffs else None)


def repeated_names(graph: Graph) -> list[str]:
    """Names of layers with parameters that another layer has, too."""
    counts = Counter(step.layer.name for step in graph.steps)
    return sorted({step.layer.name for step in graph.steps if step.layer.blobs and counts[step.layer.name] > 1})


def _owned(graph: Graph, arrays: list[list[np.ndarray]]) -> dict[str, list[np.ndarray | None]]:
    """By layer name, without what is shared from another layer, and without unnamed layers that have nothing."""
    return {
        step.layer.name: [None if _is_shared(graph, step.layer.name, i) else a for i, a in enumerate(blobs)]
        for step, blobs in zip(graph.steps, arrays, strict=True)
        if step.layer.name or blobs
    }


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _to_array(parameter: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    return parameter.detach().cpu().reshape(shape).contiguous().numpy()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
