"""A net that only runs forward: its layers folded into fewer, on its own copy of the parameters."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Shape
from caffe_compat.net.folding import Folded, LayerNode, Values, fold
from caffe_compat.net.graph import Graph
from caffe_compat.net.inference_program import OtherShapes, Program, has_kernels

#: sets of input shapes whose programs are kept; each has its own copy of the convolutions' weights
MOST_PROGRAMS = 4
MOVE = "a net made by for_inference() stays where it was made; move its net, and call for_inference() again"


class SourceNet(Protocol):
    """What an InferenceNet wants of a Net."""

    source: str
    graph: Graph
    training: bool

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of its blobs."""

    def take_inputs(self, inputs: Sequence[Any], blobs: Mapping[str, Any]) -> dict[int, Tensor]:
        """{blob number: value} of every source, from the arguments of a call."""

    def check_memory(self) -> None:
        """NetError where its blobs do not fit into the memory."""


class InferenceNet(nn.Module):
    """What ``Net.for_inference`` returns; see there.

    It is called like its net, with the same blobs, and returns the same outputs.  Data layers are its net's, parameters
    its own copy.
    """

    def __init__(self, net: SourceNet) -> None:
        super().__init__()
        if net.training:
            raise NetError(
                f"{net.source}: for_inference() needs a net that does not train; "
                'make it with phase="TEST", or call .eval() first'
            )
        self._net = [net]  # not a submodule: its parameters are not ours
        self._made_for = net.device, net.dtype
        self._has_programs = net.device.type == "cpu" and net.dtype == torch.float32 and has_kernels()
        self._folded: Folded = fold(net.graph)
        for number, node in enumerate(self._folded.nodes):
            if isinstance(node, LayerNode) and node.copied:
                self.add_module(f"layer{number}", node.layer)
        #: by the shapes of the sources; None where shapes depend on the numbers
        self.programs: OrderedDict[tuple[Shape, ...], Program | None] = OrderedDict()
        self._lock = threading.Lock()
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Refused for ``mode``: there is nothing to train."""
        if mode:
            raise NetError(f"{self._net[0].source}: a net made by for_inference() cannot train; train the net itself")
        return self

    def forward(self, /, *inputs: Any, **blobs: Tensor) -> dict[str, Tensor]:
        """Run the net: ``Net.forward``, without gradients.  One call at a time runs; others wait."""
        with self._lock, torch.no_grad():
            sources = self._sources(inputs, blobs)
            values = self._run(sources)
            # Copies: the program writes its own memory again at the next call.
            return {
                name: values[value].clone(memory_format=torch.contiguous_format)
                for name, value in self._folded.outputs.items()
            }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        raise NetError(f"{self._net[0].source}: {MOVE}")

    def _sources(self, inputs: Sequence[Any], blobs: Mapping[str, Any]) -> Values:
        net = self._net[0]
        if (net.device, net.dtype) != self._made_for:
            raise NetError(f"{net.source}: the net is on {net.device} in {net.dtype} now; {MOVE}")
        tops = net.take_inputs(inputs, blobs)
        return {self._folded.sources[top]: value for top, value in tops.items()}

    def _run(self, sources: Values) -> Values:
        program = self._program(sources)
        if program is not None:
            try:
                return program.run(sources)
            except OtherShapes:
                self.programs[_key(sources)] = None
        if self._made_for[0].type == "cpu":
            self._net[0].check_memory()
        return self._run_nodes(sources)

    def _run_nodes(self, sources: Values) -> Values:
        values = {i: _channels_last(value) for i, value in sources.items()}
        for node in self._folded.nodes:
            node.run(values)
        return values

    def _program(self, sources: Values) -> Program | None:
        """The compiled program for these shapes; None where there is none, or shapes depend on the numbers."""
        if not self._has_programs:
            return None
        key = _key(sources)
        if key not in self.programs:
            self._net[0].check_memory()
            shapes = self._folded.shapes({i: tuple(value.shape) for i, value in sources.items()})
            self.programs[key] = Program(self._folded.nodes, shapes, list(self._folded.outputs.values()))
            if len(self.programs) > MOST_PROGRAMS:
                self.programs.popitem(last=False)
        self.programs.move_to_end(key)
        return self.programs[key]

    def profile(self, /, *inputs: Any, rounds: int = 20, **blobs: Tensor) -> list[tuple[str, float]]:
        """(what, milliseconds) of each of the compiled program's nodes on such inputs, the best of ``rounds``."""
        with self._lock, torch.no_grad():
            sources = self._sources(inputs, blobs)
            self._run(sources)
            program = self._program(sources)
            return [] if program is None else program.profile(sources, rounds)


def _key(sources: Values) -> tuple[Shape, ...]:
    return tuple(tuple(value.shape) for value in sources.values())


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
