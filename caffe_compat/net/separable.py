"""Depthwise convolutions and the 1x1 convolutions behind them, as one node of a compiled program.

What lies between the two is then never written to memory.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.net.folding import ConvNode, Node, Values

#: numbers of the 1x1 weights beyond which each thread should read some of them only: the nodes stay apart
MOST_WEIGHTS = 1 << 18
#: with fewer, the blob between the two is a small part of what is read and written
FEWEST_CHANNELS = 32
#: so many pixels for each thread, or there is too little to share out
FEWEST_PIXELS = 48


@dataclass
class SeparableNode(Node):
    """``point(depthwise(x))``; ``inputs``: x, and what is added to the sums of ``point``."""

    depthwise: ConvNode
    point: ConvNode

    def compute(self, values: Values) -> Sequence[Tensor]:
        between = dict(zip(self.depthwise.outputs, self.depthwise.compute(values), strict=True))
        return self.point.compute({**values, **between})


def pair_separable(nodes: Sequence[Node], shapes: Mapping[int, Shape], kept: Collection[int]) -> list[Node]:
    """``nodes`` with such pairs as one; the values ``kept`` are needed by others."""
    readers = Counter(value for node in nodes for value in node.inputs)
    makers = {value: node for node in nodes for value in node.outputs}
    paired: dict[int, Node] = {}  # by the number of the second; the first is left out
    left_out = set()
    for number, node in enumerate(nodes):
        if not isinstance(node, ConvNode):
            continue
        first = makers.get(node.inputs[0])
        alone = readers[node.inputs[0]] == 1 and node.inputs[0] not in kept
        if isinstance(first, ConvNode) and alone and _fit(first, node, shapes):
            paired[number] = SeparableNode([first.inputs[0], *node.inputs[1:]], node.outputs, first, node)
            left_out.add(id(first))
    return [paired.get(number, node) for number, node in enumerate(nodes) if id(node) not in left_out]


def _fit(first: ConvNode, second: ConvNode, shapes: Mapping[int, Shape]) -> bool:
    channels, top = first.weight.shape[0], shapes[second.output]
    depthwise = first.groups == channels >= FEWEST_CHANNELS and first.weight.shape[1] == 1 and len(first.inputs) == 1
    span = second.span
    point = second.groups == 1 and {*second.weight.shape[2:], *span.stride} == {1} and not any(span.pad)
    if not (depthwise and point and second.weight.numel() <= MOST_WEIGHTS):
        return False
    if tuple(first.window.output_size(shapes[first.inputs[0]], first.weight.shape)) != tuple(top[2:]):
        return False  # an output that is larger than Caffe's usual one, which the kernels do not know
    return top[0] * top[2] * top[3] >= FEWEST_PIXELS * torch.get_num_threads()
