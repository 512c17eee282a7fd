"""Which nodes of a compiled program run image by image, so that the blobs between them are those of one image.

Early blobs of a net are large: those of a whole batch do not fit into the caches, those of one image may.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch

from caffe_compat.layers.base import Shape
from caffe_compat.net.folding import ConvNode, Node, PoolNode
from caffe_compat.net.separable import SeparableNode

#: numbers of a node's output for one image; smaller ones stay in the caches for some images, too
FEWEST_NUMBERS = 1 << 18
#: a node's weights beyond which reading them again for each image would cost more
MOST_WEIGHTS = 1 << 16
#: batches beyond this run as a whole: each image has its own copy of the weights
MOST_IMAGES = 16


def count_leading(nodes: Sequence[Node], shapes: Mapping[int, Shape], kept: Collection[int]) -> int:
    """How many nodes at the start, a chain with large blobs, should run image by image; values ``kept`` are whole."""
    readers = Counter(value for node in nodes for value in node.inputs)
    chain: list[Node] = []
    for node in nodes:
        if not _is_large(node, shapes):
            break
        if chain:
            between = chain[-1].output
            if list(node.inputs) != [between] or readers[between] > 1 or between in kept:
                break
        chain.append(node)
    return len(chain) if len(chain) > 1 else 0  # one alone has nothing between


def _is_large(node: Node, shapes: Mapping[int, Shape]) -> bool:
    if isinstance(node, SeparableNode):
        weights = node.depthwise.weight.numel() + node.point.weight.numel()
    elif isinstance(node, ConvNode):
        weights = node.weight.numel()
    elif isinstance(node, PoolNode):
        weights = 0
    else:
        return False
    bottom, top = shapes[node.inputs[0]], shapes[node.output]
    if len(node.inputs) != 1 or len(bottom) != 4 or len(top) != 4:
        return False
    batch = 2 <= bottom[0] == top[0] <= MOST_IMAGES
    return batch and torch.Size(top[1:]).numel() >= FEWEST_NUMBERS and weights <= MOST_WEIGHTS
