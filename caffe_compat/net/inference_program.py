"""Folded nodes as one compiled program: float32 on the CPU, for one set of input shapes.

All blobs lie in one tensor, channels last; each gets its place before the first run, and two that are never needed at
the same time may share it.  A blob that is concatenated lies inside the concatenation where its maker can write it
there.  Nodes that the program does not know run between its parts, on views of the blobs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_compat import extension
from caffe_compat.layers.base import Shape
from caffe_compat.layers.shared.channel_form import ChannelForm
from caffe_compat.net.by_image import count_leading
from caffe_compat.net.folding import (
    ChannelNode,
    ConcatNode,
    ConvNode,
    LayerNode,
    LrnNode,
    Node,
    PoolNode,
    ProductNode,
    SoftmaxNode,
    Values,
)
from caffe_compat.net.separable import SeparableNode, pair_separable

ALIGNMENT = 16  # numbers: a cache line
#: items from which on an inner product is computed as a convolution of 1 x 1: its weights are then read once for all
PRODUCT_BATCH = 8
#: pixels up to which the program computes a Softmax by itself: PyTorch's operator costs more to call than to run
SOFTMAX_PIXELS = 64


def has_kernels() -> bool:
    """Whether this machine and this build can run programs."""
    return extension.load() is not None and bool(torch.ops.caffe_compat.has_inference_kernels())


#: how a convolution may be computed (csrc/inference/program.h)
WAYS = {0: "direct", 1: "gathered", 2: "Winograd 2x2", 4: "Winograd 4x4"}


class OtherShapes(Exception):
    """A layer has made a blob of another shape than it said: how many rows it has depends on the numbers."""


@dataclass
class Blob:
    """Where a value lies in the arena: N H W C, ``stride`` numbers from pixel to pixel."""

    shape: Shape  # (N, C) or (N, C, H, W)
    offset: int
    stride: int

    @property
    def numbers(self) -> list[int]:
        """As the program takes it."""
        n, c, h, w = self.sizes
        return [self.offset, n, h, w, c, self.stride]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """N, C, H, W; 1 for axes that are not there."""
        n, c, h, w = (*self.shape, 1, 1)[:4]
        return n, c, h, w

    def image(self, number: int) -> "Blob":
        """One image of it; the only one of a blob that has one at a time."""
        n, _, h, w = self.sizes
        return Blob((1, *self.shape[1:]), self.offset + (number * h * w * self.stride if n > 1 else 0), self.stride)

    def view(self, arena: Tensor) -> Tensor:
        """The value in its own shape."""
        _, _, h, w = self.sizes
        strides = (h * w * self.stride, 1, w * self.stride, self.stride)
        return arena.as_strided(self.shape, strides[: len(self.shape)], self.offset)


class Program:
    """Runs ``nodes`` for sources of given shapes; OtherShapes where that cannot be.

    ``shapes``: of every value; ``outputs``: the values that the caller reads after a run.
    """

    def __init__(self, nodes: Sequence[Node], shapes: Mapping[int, Shape], outputs: Sequence[int]) -> None:
        nodes = pair_separable(nodes, shapes, outputs)
        self._nodes = nodes
        self._shapes = shapes
        #: which nodes the program knows; the others run between its parts
        self.native = [_is_native(node, shapes) for node in nodes]
        made = {value for node, native in zip(nodes, self.native, strict=True) if native for value in node.outputs}
        read = {value for node, native in zip(nodes, self.native, strict=True) if native for value in node.inputs}
        theirs = {v for node, native in zip(nodes, self.native, strict=True) if not native for v in node.inputs}
        #: made by the program, read by others: views of them may live as long as the run
        self.seen = (theirs | set(outputs)) & made
        self._loaded = read - made
        #: so many nodes at the start run image by image
        self.leading = count_leading(nodes, shapes, self.seen)
        if not all(self.native[: self.leading]):
            self.leading = 0
        placement = _Placement(nodes, self.native, shapes, self.seen, self._loaded, leading=self.leading)
        #: where each value of the program lies in the arena
        self.places = placement.places
        self.arena = torch.zeros(placement.size)
        self._parts: list[_Part | Node] = []
        self._build()

    def run(self, sources: Values) -> Values:
        """All values that are not the program's own, the outputs among them; valid until the next run."""
        values = dict(sources)
        for part in self._parts:
            part.run(values)
        return values

    def profile(self, sources: Values, rounds: int) -> list[tuple[str, float]]:
        """(what, milliseconds) of each node, the best of ``rounds``; nodes outside the program are left out."""
        values = self.run(sources)
        return [line for part in self._parts if isinstance(part, _Part) for line in part.profile(values, rounds)]

    def _build(self) -> None:
        loaded: set[int] = set()
        part: _Part | None = None
        for number, (node, native) in enumerate(zip(self._nodes, self.native, strict=True)):
            if not native:
                self._parts.append(node)
                part = None
                continue
            if part is None:
                part = _Part(self.arena, self.places)
                self._parts.append(part)
            for value in node.inputs:
                if value in self._loaded - loaded:
                    part.load(value)
                    loaded.add(value)
            if number >= self.leading:
                part.add(node)
            elif number == self.leading - 1:
                for image in range(self._shapes[node.output][0]):
                    for one in self._nodes[: self.leading]:
                        part.add(one, image)
            for value in node.outputs:
                if value in self.seen:
                    part.shown[value] = self.places[value].view(self.arena)


class _Part:
    """Nodes that run as one call."""

    def __init__(self, arena: Tensor, places: Mapping[int, Blob]) -> None:
        self._program: Any = torch.classes.caffe_compat.InferenceProgram(arena)
        self._places = places
        self._inputs: list[int] = []
        self._names: list[str] = []
        self._convolutions: list[int] = []  # their places in the names
        self._chosen = False
        self.shown: Values = {}

    def run(self, values: Values) -> None:
        for value in self._inputs:
            if tuple(values[value].shape) != self._places[value].shape:
                raise OtherShapes
        inputs = [values[i] for i in self._inputs]
        if not self._chosen:
            for name, way in zip(self._convolutions, self._program.choose(inputs), strict=True):
                self._names[name] += f", {WAYS[way]}"
            self._chosen = True
        self._program.run(inputs)
        values.update(self.shown)

    def profile(self, values: Values, rounds: int) -> list[tuple[str, float]]:
        times: list[float] = self._program.profile([values[i] for i in self._inputs], rounds)
        return list(zip(self._names, times, strict=True))

    def load(self, value: int) -> None:
        """Take a value from outside."""
        self._names.append("load")
        self._program.load(len(self._inputs), self._places[value].numbers)
        self._inputs.append(value)

    def add(self, node: Node, image: int | None = None) -> None:
        """Append the node's work, for one image or for all."""
        places = [self._places[i] for i in node.inputs]
        top = self._places[node.output]
        if image is not None:
            places, top = [place.image(image) for place in places], top.image(image)
        if isinstance(node, ConvNode):
            self._convolve(node, places, top)
        elif isinstance(node, SeparableNode):
            self._separable(node, places, top)
        elif isinstance(node, ProductNode):
            self._multiply(node, places, top)
        elif isinstance(node, PoolNode):
            kernel = places[0].sizes[2:] if node.layer.global_pooling else node.layer.kernel
            window = [*kernel, *node.layer.stride, *node.layer.pad, 1, 1]
            self._names.append(f"pooling {window} on {places[0].sizes}")
            self._program.pool(places[0].numbers, top.numbers, window, node.layer.method == "AVE")
        elif isinstance(node, LrnNode):
            lrn = node.layer
            self._names.append("LRN")
            self._program.lrn(places[0].numbers, top.numbers, lrn.local_size, lrn.alpha, lrn.beta, lrn.k)
        elif isinstance(node, SoftmaxNode):
            self._names.append(f"softmax {places[0].sizes}")
            self._program.softmax(places[0].numbers, top.numbers)
        elif isinstance(node, ConcatNode):
            self._concatenate(places, top)
        elif isinstance(node, ChannelNode):
            self._pointwise(places, node.factors, node.form, top)
        if image is not None:
            self._names[-1] += f", image {image}"

    def _convolve(self, node: ConvNode, places: Sequence[Blob], top: Blob) -> None:
        window = node.window
        if is_product(node, places):
            self._multiply(ProductNode(node.inputs, node.outputs, node.weight, node.bias, node.form), places, top)
            return
        numbers = [*node.weight.shape[2:], *window.stride, *window.padding, *window.dilation]
        add = places[1].numbers if len(places) > 1 else None
        slopes, *cuts = _behind(node.form, top.shape[1])
        self._convolutions.append(len(self._names))
        self._program.convolve(
            places[0].numbers, top.numbers, node.weight, numbers, window.groups, node.bias, add, slopes, *cuts, -1
        )
        sizes = "x".join(map(str, node.weight.shape))
        self._names.append(f"convolution {sizes} on {places[0].sizes}")

    def _separable(self, node: SeparableNode, places: Sequence[Blob], top: Blob) -> None:
        first, second = node.depthwise, node.point
        window = first.window
        numbers = [*first.weight.shape[2:], *window.stride, *window.padding, *window.dilation]
        add = places[1].numbers if len(places) > 1 else None
        first_slopes, *first_cuts = _behind(first.form, first.weight.shape[0])
        slopes, *cuts = _behind(second.form, top.shape[1])
        self._program.separable(
            places[0].numbers, top.numbers, first.weight, numbers, first.bias, first_slopes, *first_cuts,
            second.weight, second.bias, add, slopes, *cuts,
        )  # fmt: skip
        sizes = ["x".join(map(str, weight.shape)) for weight in (first.weight, second.weight)]
        self._names.append(f"convolutions {sizes[0]} and {sizes[1]} on {places[0].sizes}, separable")

    def _multiply(self, node: ProductNode, places: Sequence[Blob], top: Blob) -> None:
        n, c, h, w = places[0].sizes
        # The bottom lies with its channels last; so must the weights.
        weight = node.weight.reshape(-1, c, h, w).permute(0, 2, 3, 1).flatten(1)
        slopes, *cuts = _behind(node.form, top.shape[1])
        self._names.append(f"inner product {tuple(weight.shape)}")
        if n < PRODUCT_BATCH:
            self._program.multiply(places[0].numbers, top.numbers, weight, node.bias, slopes, *cuts)
            return
        self._convolutions.append(len(self._names) - 1)
        flat = [places[0].offset, n, 1, 1, c * h * w, c * h * w]
        window = [1, 1, 1, 1, 0, 0, 1, 1]
        self._program.convolve(flat, top.numbers, weight, window, 1, node.bias, None, slopes, *cuts, 0)

    def _concatenate(self, places: Sequence[Blob], top: Blob) -> None:
        offset = top.offset
        for place in places:
            n, c, h, w = place.sizes
            if (place.offset, place.stride) != (offset, top.stride):  # else it lies there already
                self._pointwise([place], (1.0,), ChannelForm(), Blob((n, c, h, w), offset, top.stride))
            offset += c

    def _pointwise(self, places: Sequence[Blob], factors: Sequence[float], form: ChannelForm, top: Blob) -> None:
        second = places[1].numbers if len(places) > 1 else None
        channels = top.shape[1]
        self._names.append(f"pointwise {factors} on {places[0].sizes}")
        scale, bias = (_spread(numbers, channels) for numbers in (form.scale, form.shift))
        self._program.pointwise(
            places[0].numbers, second, factors[0], factors[-1], scale, bias, *_behind(form, channels), top.numbers
        )


def is_product(node: ConvNode, places: Sequence[Blob]) -> bool:
    """Whether a convolution of few vectors is an inner product."""
    n, _, h, w = places[0].sizes
    dense = places[0].stride == places[0].shape[1]
    plain = len(places) == 1 and node.groups == 1 and not any(node.span.pad)
    return dense and plain and n < PRODUCT_BATCH and (h, w) == tuple(node.weight.shape[2:])


def _behind(form: ChannelForm, channels: int) -> tuple[Tensor | None, float, float]:
    return _spread(form.slopes, channels), form.floor, form.ceiling


def _spread(numbers: Tensor | None, channels: int) -> Tensor | None:
    return None if numbers is None else numbers.float().expand(channels).contiguous()


def _is_native(node: Node, shapes: Mapping[int, Shape]) -> bool:
    """Whether the program knows this node for these shapes."""
    if isinstance(node, LayerNode):
        return False
    tensors = [shapes[i] for i in (*node.inputs, *node.outputs)]
    if any(len(shape) not in (2, 4) or 0 in shape for shape in tensors):
        return False
    bottom, top = shapes[node.inputs[0]], shapes[node.output]
    if isinstance(node, ConvNode):
        return tuple(node.window.output_size(bottom, node.weight.shape)) == tuple(top[2:])
    if isinstance(node, PoolNode):
        layer = node.layer
        kernel = bottom[2:] if layer.global_pooling else layer.kernel
        starts = [(top[2 + i] - 1) * layer.stride[i] - layer.pad[i] for i in (0, 1)]
        return all(starts[i] < bottom[2 + i] and layer.pad[i] < kernel[i] for i in (0, 1))
    if isinstance(node, SoftmaxNode):
        return torch.Size(bottom).numel() <= SOFTMAX_PIXELS * bottom[1]
    return True


class _Placement:
    """Where each value lies, and how large the arena is."""

    def __init__(
        self,
        nodes: Sequence[Node],
        native: Sequence[bool],
        shapes: Mapping[int, Shape],
        seen: set[int],
        loaded: set[int],
        *,
        leading: int,
    ) -> None:
        between = [node.output for node in nodes[: leading - 1]] if leading else []
        self._shapes = {**shapes, **{value: (1, *shapes[value][1:]) for value in between}}
        self._parents = self._find_parents(nodes, native, seen | loaded)
        first, last = self._lives(nodes, native, seen)
        if leading:
            # While some images have passed all of these nodes, others have not begun.
            bottom, top = self._root(nodes[0].inputs[0]), self._root(nodes[leading - 1].output)
            last[bottom], first[top] = max(last[bottom], leading - 1), 0
        self.places: dict[int, Blob] = {}
        self.size = 0
        self._free: list[tuple[int, int]] = []  # (offset, size)
        ends: dict[int, list[int]] = {}
        for value in first:
            ends.setdefault(last[value], []).append(value)
        held: dict[int, tuple[int, int]] = {}
        by_start = sorted(first, key=lambda value: first[value])
        time = 0
        for value in by_start:
            while time < first[value]:
                for old in ends.get(time, []):
                    self._give_back(held.pop(old))
                time += 1
            size = -(-torch.Size(self._shapes[value]).numel() // ALIGNMENT) * ALIGNMENT
            held[value] = (self._take(size), size)
            self.places[value] = Blob(self._shapes[value], held[value][0], shapes[value][1])
        for value in self._parents:
            self._place_inside(value)

    def _find_parents(
        self, nodes: Sequence[Node], native: Sequence[bool], apart: set[int]
    ) -> dict[int, tuple[int, int]]:
        """{value: (the concatenation that it lies in, its first channel there)}."""
        can_write, dense = set(), set(apart)
        for node, known in zip(nodes, native, strict=True):
            if known and not isinstance(node, LrnNode | ProductNode):
                can_write.update(node.outputs)
            if isinstance(node, LrnNode | ProductNode):
                dense.update(node.inputs)
        parents: dict[int, tuple[int, int]] = {}
        for node, known in zip(nodes, native, strict=True):
            if not (known and isinstance(node, ConcatNode)):
                continue
            channel = 0
            for value in node.inputs:
                if value in can_write - dense and value not in parents:
                    parents[value] = (node.output, channel)
                channel += self._shapes[value][1]
        return parents

    def _root(self, value: int) -> int:
        while value in self._parents:
            value = self._parents[value][0]
        return value

    def _lives(
        self, nodes: Sequence[Node], native: Sequence[bool], seen: set[int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        """{value with memory of its own: the first and the last node that use it}."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for time, (node, known) in enumerate(zip(nodes, native, strict=True)):
            if not known:
                continue
            for value in (*node.inputs, *node.outputs):
                root = self._root(value)
                first.setdefault(root, time)
                last[root] = len(nodes) if value in seen else max(last.get(root, 0), time)
        return first, last

    def _take(self, size: int) -> int:
        fitting = [(room, offset) for offset, room in self._free if room >= size]
        if fitting:
            room, offset = min(fitting)
            self._free.remove((offset, room))
            if room > size:
                self._free.append((offset + size, room - size))
            return offset
        offset, self.size = self.size, self.size + size
        return offset

    def _give_back(self, block: tuple[int, int]) -> None:
        offset, size = block
        for other in list(self._free):
            if other[0] + other[1] == offset:
                offset, size = other[0], size + other[1]
                self._free.remove(other)
            elif offset + size == other[0]:
                size += other[1]
                self._free.remove(other)
        self._free.append((offset, size))

    def _place_inside(self, value: int) -> Blob:
        if value not in self.places:
            parent, channel = self._parents[value]
            around = self._place_inside(parent)
            self.places[value] = Blob(self._shapes[value], around.offset + channel, around.stride)
        return self.places[value]
