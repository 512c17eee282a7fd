"""py-faster-rcnn's Python layer ``rpn.proposal_layer``, built in: a net that names it needs none of its code."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.shared.onnx_proposals import proposal_nodes
from caffe_compat.layers.shared.proposals import ProposalRule, make_anchors, propose
from caffe_compat.layers.shared.suppression import Array
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep

# py-faster-rcnn's own settings (its config.py), by phase: TRAIN, TEST
BEFORE, AFTER = (12000, 6000), (2000, 300)
THRESHOLD, LEAST_SIZE, BASE_SIZE = 0.7, 16, 16
DEFAULTS = {"scales": [8.0, 16.0, 32.0], "ratios": [0.5, 1.0, 2.0]}

_LINE = re.compile(
    r"""\s*['"]?(?P<key>\w+)['"]?\s*:\s*(?:!!python/tuple\s*)?(?P<values>\[[^\]]*\]|\([^)]*\)|[^\n,]+)\s*,?"""
)


class Blob(Protocol):
    """What is read and written of a blob."""

    @property
    def data(self) -> Array: ...

    def reshape(self, *shape: int) -> None: ...


class ProposalLayer:
    """Bottoms scores (1, 2 A, H, W), offsets (1, 4 A, H, W), image info (1, at least 3): height, width, scale -> tops
    regions (R, 5) and, if there is a second, their scores (R, 1).  PVANET's image info has more values, which its
    layer does not read either.

    ``python_param.param_str`` has ``feat_stride`` and may have ``scales`` and ``ratios`` of the anchors.  6,000
    proposals before and 300 after suppression in TEST, 12,000 and 2,000 in TRAIN; those of a side below 16 pixels of
    the image before its scaling are left out.  No gradient.
    """

    phase: int

    def __init__(self, param: caffe_pb2.LayerParameter) -> None:
        self.where = f'layer "{param.name}" (Python)'
        settings = self._read(param.python_param.param_str)
        self.stride = settings["feat_stride"][0]
        self.anchors = make_anchors(BASE_SIZE, settings["ratios"], settings["scales"])

    def _read(self, text: str) -> dict[str, list[float]]:
        """The settings in a ``param_str``, which is YAML of numbers and lists of numbers."""
        settings = dict(DEFAULTS)
        rest = text.strip().strip("{}")
        while rest:
            line = _LINE.match(rest)
            numbers = line and re.findall(r"[^\s,\[\]()]+", line["values"])
            try:
                assert line is not None
                assert numbers
                settings[line["key"]] = [float(number) for number in numbers]
            except (AssertionError, ValueError):
                raise self._error(text) from None
            rest = rest[line.end() :].strip()
        if "feat_stride" not in settings or set(settings) - {*DEFAULTS, "feat_stride"}:
            raise self._error(text)
        return settings

    def _error(self, text: str) -> NetError:
        return NetError(
            f'{self.where}: python_param.param_str is "{text}"; expected feat_stride and, if any, scales and ratios, '
            "as 'feat_stride': 16"
        )

    def setup(self, bottom: Sequence[Any], top: Sequence[Blob]) -> None:
        """One row, as the original has before its first forward (its scores have four axes until then)."""
        for blob, shape in zip(top, ((1, 5), (1, 1)), strict=False):
            blob.reshape(*shape)

    def reshape(self, bottom: Sequence[Any], top: Sequence[Blob]) -> None:
        """Forward gives the tops their sizes."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        scores, offsets, info = (torch.from_numpy(np.array(blob.data)) for blob in bottom)
        self._check([tuple(blob.shape) for blob in (scores, offsets, info)])
        regions, found = propose(scores, offsets, info[:1, :3], self._rule())
        for blob, values in zip(top, (regions, found.unsqueeze(1)), strict=False):
            blob.reshape(*values.shape)
            blob.data[...] = values.numpy()

    def _check(self, shapes: Sequence[Shape]) -> None:
        number = len(self.anchors)
        scores, offsets, info = shapes
        if (*scores[:2], *offsets[:2]) != (1, 2 * number, 1, 4 * number) or len(info) != 2 or info[1] < 3:
            raise NetError(
                f"{self.where}: bottoms have shapes {', '.join(map(str, shapes))}; expected (1, {2 * number}, H, W), "
                f"(1, {4 * number}, H, W) and (1, 3) for {number} anchors"
            )

    def data_sized(self) -> dict[int, int]:
        """As ``Layer.data_sized``."""
        return {0: 0, 1: 0}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        """As ``Layer.to_onnx``; of all tops that there may be."""
        self._check(step.bottom_shapes)
        regions, scores = proposal_nodes(graph, step, self._rule(), scales=1)
        return [regions, graph.unsqueeze(scores, [1])]

    def _rule(self) -> ProposalRule:
        return ProposalRule(
            anchors=self.anchors,
            stride=self.stride,
            least_size=LEAST_SIZE,
            before=BEFORE[self.phase],
            after=AFTER[self.phase],
            threshold=THRESHOLD,
            drop_small=True,
        )

    def backward(self, top: Sequence[Any], propagate_down: Sequence[bool], bottom: Sequence[Any]) -> None:
        """No gradient, as in the original."""
