"""Frozen first layers that several nets have in common, computed once for all of them."""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.net.chains import Fused, find_chains
from caffe_compat.net.graph import Step
from caffe_compat.net.net import Net
from caffe_compat.net.prefix import constant_line
from caffe_compat.precision import autocast

#: fields of a layer that do not say what it computes
_NAMES = ("name", "bottom", "top", "param", "blobs", "include", "exclude", "phase", "propagate_down")


class SharedPrefix:
    """What frozen first layers make of a batch, kept as long as it is the last one.

    For nets on one device that get their batches from one ``BatchPool`` and take turns, an iteration each.  A net runs
    its frozen layers only behind those that another net with the same layers and weights has run on this batch: of nets
    that start from one network, with 1 to 7 layers frozen, each runs one layer.
    """

    def __init__(self) -> None:
        self._batch: Tensor | None = None
        self._made: dict[bytes, Tensor] = {}

    def add(self, net: Net, precision: str) -> str:
        """Let ``net`` start behind the layers that do the same to an image at each of its turns; which, in words.

        "" where it has none, or another source than one data layer.  Their weights are taken as they are at the first
        batch, and are not looked at again.
        """
        sources = [step for step in net.steps if step.layer.is_source]
        line = constant_line(net) if len(sources) == 1 else []
        if not line or not isinstance(sources[0].layer, SourceLayer):
            return ""
        layer: SourceLayer = sources[0].layer
        first = sources[0].tops[0]
        units: Sequence[Step | Fused] = find_chains(line) if net.fast else line
        keys = list[bytes]()

        def features(batch: Tensor) -> Tensor:
            if not keys:
                keys.extend(_keys(units))
            with torch.no_grad(), autocast(net.device, precision):
                return self._run(batch, net.device, units, keys, first)

        net.start_behind(line)
        layer.features = features
        return f"{line[0].layer.name} to {line[-1].layer.name}"

    def _run(
        self, batch: Tensor, device: torch.device, units: Sequence[Step | Fused], keys: Sequence[bytes], first: int
    ) -> Tensor:
        if self._batch is not batch:
            self._batch, self._made = batch, {}
        done = max((number for number, key in enumerate(keys) if key in self._made), default=-1)
        values = {first: batch.to(device)} if done < 0 else {_top(units[done]): self._made[keys[done]]}
        for unit, key in zip(units[done + 1 :], keys[done + 1 :], strict=True):
            unit.run(values)
            self._made[key] = values[_top(unit)]
        return values[_top(units[-1])]


def _top(unit: Step | Fused) -> int:
    step = unit.steps[-1] if isinstance(unit, Fused) else unit
    return step.tops[0]


def _keys(units: Sequence[Step | Fused]) -> list[bytes]:
    """For each unit what it and those before it compute: their fields and their weights, in short."""
    found, digest = [], blake2b()
    for unit in units:
        for step in unit.steps if isinstance(unit, Fused) else [unit]:
            param = type(step.layer.param)()
            param.CopyFrom(step.layer.param)
            for name in _NAMES:
                param.ClearField(name)
            digest.update(param.SerializeToString(deterministic=True))
            for blob in step.layer.blobs:
                digest.update(blob.detach().cpu().contiguous().numpy().tobytes())
        found.append(digest.digest())
    return found
