"""Parameters in and out of a net's graph: copied by layer name, saved as Caffe saves them."""

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.net.graph import Graph
from caffe_compat.proto import (
    LayerWeights,
    caffe_pb2,
    is_hdf5,
    message_weights,
    read_caffemodel,
    read_hdf5_weights,
    write_caffemodel,
    write_hdf5_weights,
)


@dataclass
class CopyReport:
    """What ``Net.copy_from`` did, by layer name."""

    copied: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # in the source, not in this net
    missing: list[str] = field(default_factory=list)  # with parameters here, not in the source


def copy_weights(graph: Graph, source: str | os.PathLike[str] | caffe_pb2.NetParameter) -> CopyReport:
    """Caffe's CopyTrainedLayersFrom.  Nothing is changed when anything does not fit."""
    if not isinstance(source, str | os.PathLike):
        layers, origin, partial = message_weights(source), "<message>", False
    elif is_hdf5(source):
        layers, origin, partial = read_hdf5_weights(source), os.fspath(source), True
    else:
        layers, origin, partial = read_caffemodel(source), os.fspath(source), False
    report = CopyReport()
    plan: list[tuple[Tensor, np.ndarray]] = []
    targets = {step.layer.name: step.layer for step in reversed(graph.steps)}  # the first of equal names
    for weights in layers:
        layer = targets.get(weights.name)
        if layer is None:
            report.ignored.append(weights.name)
            continue
        plan += _match(graph, weights, origin, partial)
        if weights.blobs:
            report.copied.append(weights.name)
    known = set(report.copied)
    report.missing = [name for name in graph.params if name not in known]
    with torch.no_grad():
        for target, array in plan:
            target.copy_(torch.from_numpy(np.array(array, copy=True)).view(target.shape))
    return report


def _match(graph: Graph, weights: LayerWeights, origin: str, partial: bool) -> list[tuple[Tensor, np.ndarray]]:
    layer = next(step.layer for step in graph.steps if step.layer.name == weights.name)
    place = f'{origin}: layer "{weights.name}"'
    blobs = layer.blobs
    # An HDF5 file leaves out parameters that are shared from another layer.
    absent = [i for i in range(len(blobs)) if i >= len(weights.blobs) or weights.blobs[i] is None]
    shared = {i for i in absent if partial and _is_shared(graph, layer.name, i)}
    if len(weights.blobs) > len(blobs) or set(absent) - shared:
        raise NetError(
            f"{place}: has {sum(b is not None for b in weights.blobs)} parameter blob(s), the net's layer "
            f"({graph.context.source.name}) has {len(blobs)}; rename the layer to train it from scratch"
        )
    matched: list[tuple[Tensor, np.ndarray]] = []
    for i, (target, array) in enumerate(zip(blobs, weights.blobs, strict=False)):
        if array is None:
            continue
        if not _shapes_agree(layer.blob_shapes[i], array.shape, weights.legacy[i]):
            raise NetError(
                f"{place}: param {i} has shape {tuple(array.shape)} in the file and {layer.blob_shapes[i]} in the net "
                f"({graph.context.source.name}); rename the layer to train it from scratch instead of copying it"
            )
        matched.append((target, array))
    return matched


def _shapes_agree(ours: tuple[int, ...], theirs: tuple[int, ...], legacy: bool) -> bool:
    if legacy:
        # Files before BlobShape always hold 4 numbers; missing leading axes are 1.
        return len(ours) <= 4 and (1,) * (4 - len(ours)) + tuple(ours) == tuple(theirs)
    return tuple(ours) == tuple(theirs)


def _is_shared(graph: Graph, layer_name: str, index: int) -> bool:
    return not any(p.layer == layer_name and p.index == index for p in graph.learnable)


def share_weights(graph: Graph, other: Graph) -> None:
    """Caffe's ShareTrainedLayersWith: nothing is shared when anything does not fit."""
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
    for layer, i, parameter in plan:
        layer.share_blob(i, parameter)


def save_weights(graph: Graph, path: str | os.PathLike[str], hdf5: bool) -> None:
    """Write all parameters.  The file is whole or absent."""
    arrays: dict[str, list[np.ndarray | None]] = {
        step.layer.name: [_to_array(p, s) for p, s in zip(step.layer.blobs, step.layer.blob_shapes, strict=True)]
        for step in graph.steps
    }
    if hdf5:
        for name, blobs in arrays.items():
            arrays[name] = [None if _is_shared(graph, name, i) else a for i, a in enumerate(blobs)]
        write_hdf5_weights(path, arrays)
    else:
        param = type(graph.param)(name=graph.param.name)
        param.layer.extend(graph.param.layer)
        write_caffemodel(path, param, arrays)


def _to_array(parameter: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    return parameter.detach().cpu().view(shape).contiguous().numpy()
