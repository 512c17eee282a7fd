"""A layer type for one block of a torchvision network: its parameters and running averages are the layer's blobs.

    layer { name: "layer1.0" type: "TorchvisionBlock" bottom: "conv1" top: "layer1.0"
            python_param { module: "resnet18" layer: "layer1.0" } }

``module`` is torchvision's name of the network, ``layer`` the first module of the block.  A network comes apart where a
single tensor goes on; what has no weights (ReLU, pooling, a normalisation) belongs to the block before it.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from caffe_compat.errors import DataError, NetError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.random import CaffeGenerator, generator

#: networks that also have classifiers on the way, which are left out; their own initial values
_OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
#: what draws numbers in training
_RANDOM = ("Dropout", "Dropout2d", "StochasticDepth")
_SMALLEST_BLOCKS = 2


@dataclass(frozen=True)
class Block:
    """A part of a network, from one place where a single tensor goes on to another."""

    name: str  # of its first module with weights: layer1.0
    module: fx.GraphModule


@dataclass(frozen=True)
class Blocks:
    """A network as a chain: blocks, then one inner product."""

    blocks: tuple[Block, ...]
    classifier: str  # the inner product's name: fc
    inputs: int  # how many values it takes
    bias: bool  # whether it has one

    def index(self, name: str) -> int:
        """Which block has a name; NetError for none."""
        names = [block.name for block in self.blocks]
        if name not in names:
            raise NetError(f"no block {name[:50]!r}; expected one of {', '.join(names)}")
        return names.index(name)


def build(name: str) -> nn.Module:
    """torchvision's classification network of a name, with its initial values.  Raises DataError for another name."""
    from torchvision import models  # takes a second, which other networks need not wait for

    known = models.list_models(module=models)
    if name not in known:
        raise DataError(f"--model {name}: torchvision has no such classification network; it has {', '.join(known)}")
    made: nn.Module = models.get_model(name, weights=None, **_OPTIONS.get(name, {}))
    return made


@cache
def blocks_of(name: str) -> Blocks:
    """A network in blocks; DataError where it is no chain of two or more that ends in an inner product."""
    with torch.random.fork_rng(devices=[]):
        network = build(name)
    try:
        graph = _Tracer(network).trace(network)
    except Exception as error:
        raise DataError(f"--model {name}: torch.fx cannot follow its forward: {error}") from error
    weights = {key for key, module in network.named_modules() if any(p.dim() > 1 for p in module.parameters())}
    parts = list[list[fx.Node]]()
    last: nn.Module | None = None
    for part in _single_files(graph):
        names = [str(node.target) for node in part if node.op == "call_module"]
        if not parts or weights & set(names):
            parts.append(part)
            last = network.get_submodule(names[0]) if names == names[:1] != [] else None
        else:
            parts[-1] += part
            last = None
    if len(parts) <= _SMALLEST_BLOCKS or not isinstance(last, nn.Linear):
        raise DataError(
            f"--model {name}: is no chain of {_SMALLEST_BLOCKS} blocks or more with an inner product at its end; "
            "choose another, as resnet18"
        )
    found = tuple(_block(network, part) for part in parts[:-1])
    return Blocks(found, str(parts[-1][0].target), last.in_features, last.bias is not None)


class _Tracer(fx.Tracer):
    """Goes into plain Sequentials that the network itself consists of, and takes all other modules as a whole."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._opened: set[nn.Module] = set()
        self._open(network)

    def _open(self, module: nn.Module) -> None:
        for child in module.children():
            if type(child) is nn.Sequential:
                self._opened.add(child)
                self._open(child)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """See torch.fx."""
        return m not in self._opened


def _single_files(graph: fx.Graph) -> list[list[fx.Node]]:
    """The nodes in parts, each of which ends where its last value alone is needed further on."""
    place = {node: i for i, node in enumerate(graph.nodes)}
    needed = {node: max((place[user] for user in node.users), default=place[node]) for node in graph.nodes}
    parts, part = list[list[fx.Node]](), list[fx.Node]()
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        part.append(node)
        before = [other for other in graph.nodes if place[other] <= place[node] and other.op != "get_attr"]
        if [other for other in before if needed[other] > place[node]] == [node]:
            parts.append(part)
            part = []
    return parts


def _block(network: nn.Module, part: Sequence[fx.Node]) -> Block:
    """A module of its own of some nodes of a network."""
    inside = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}

    def value(node: fx.Node) -> fx.Node:
        if node not in values:  # the one tensor that comes from before
            values[node] = inside.placeholder("bottom")
        return values[node]

    for node in part:
        values[node] = inside.node_copy(node, value)
    inside.output(values[part[-1]])
    names = [str(node.target) for node in part if node.op == "call_module"]
    weighty = [name for name in names if any(p.dim() > 1 for p in network.get_submodule(name).parameters())]
    return Block((weighty or names)[0], deepcopy(fx.GraphModule(network, inside)))


#: the seed of a random stream's latest network, whose blocks belong together
_seeds: WeakKeyDictionary[CaffeGenerator, int] = WeakKeyDictionary()


@lru_cache(maxsize=1)
def _initial(name: str, seed: int) -> dict[str, Tensor]:
    """All values of a network as torchvision draws them; its own default seed stays where it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name).state_dict()


@register("TorchvisionBlock")
class TorchvisionBlock(Layer):
    """Bottom (N, ...) -> top (N, ...): one block of a torchvision network.

    Blobs: the parameters by torchvision's names and order, then the running averages of BatchNorm, which are not
    learned (lr_mult 0).  They begin as torchvision draws them, from one draw of Caffe's stream for each network.  A
    block all of whose parameters have lr_mult 0 is frozen: in training, too, it normalises by its running averages,
    leaves these as they are and drops nothing.
    """

    param_fields = ("python_param",)
    graph_obstacle = "is a module of torchvision's, about which nothing is known"
    drawing_kind = "weights"

    def setup(self, bottom: Shape) -> None:
        """The blobs of the block that the fields name."""
        self._network, name = str(self.param.python_param.module), str(self.param.python_param.layer)
        try:
            self._index = blocks_of(self._network).index(name)
        except (DataError, NetError) as error:
            self.fail(f"python_param: {error}")
        block = blocks_of(self._network).blocks[self._index].module
        self.check_bottom(bottom)
        values = None if self.context.shapes_only else self._first_values()
        self.block = deepcopy(block)
        learned = dict(self.block.named_parameters())
        kept = {key: value for key, value in self.block.named_buffers() if value.is_floating_point()}
        kept = {key: value for key, value in kept.items() if key.endswith(("running_mean", "running_var"))}
        self._names = [*learned, *kept]
        for key, tensor in {**learned, **kept}.items():
            self.add_blob(key.replace(".", "_"), tensor.shape, _filler(values, key), trainable=key in learned)
            parent, _, leaf = key.rpartition(".")
            owner = self.block.get_submodule(parent)
            if key in learned:
                delattr(owner, leaf)
            owner.register_buffer(leaf, torch.empty(0), persistent=False)  # a place for the blob
        for number, key in enumerate(self._names):
            if number == len(self.param.param):
                self.param.param.add(lr_mult=float(key in learned), decay_mult=float(key in learned))
        rates = [spec.lr_mult for spec in self.param.param]
        if any(rates[len(learned) : len(self._names)]):
            self.fail("a running average has an lr_mult; it is not learned, set it to 0")
        self.is_frozen = not any(rates)
        self._draws = not self.is_frozen and any(type(part).__name__ in _RANDOM for part in self.block.modules())
        self.train(self.training)

    def _first_values(self) -> dict[str, Tensor]:
        stream = generator()
        if self._index == 0 or stream not in _seeds:
            _seeds[stream] = stream.raw()
        return _initial(self._network, _seeds[stream])

    def check_bottom(self, bottom: Shape) -> None:
        """NetError for a bottom that the block cannot take."""
        try:
            self.infer_shapes(bottom)
        except RuntimeError as error:
            self.fail(f"the block cannot take a bottom of shape {bottom}: {error}")

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        """The block says it, without values."""
        return [_run_without_values(self._network, self._index, bottom)[0]]

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        """See Layer: convolutions and products of matrices."""
        return _run_without_values(self._network, self._index, bottom_shapes[0])[1]

    def train(self, mode: bool = True) -> "TorchvisionBlock":
        """See nn.Module; a frozen block stays as in tests."""
        super().train(mode)
        if getattr(self, "is_frozen", False):
            self.block.eval()
        return self

    def forward(self, bottom: Tensor) -> Tensor:
        """The block, with the layer's blobs."""
        values = {key: self.blob(i) for i, key in enumerate(self._names)}
        if not (self._draws and self.training):
            return self._call(values, bottom)
        # PyTorch's own generators are in no snapshot: each pass begins them anew from Caffe's stream, which is.
        seed = generator().raw()
        with torch.random.fork_rng(devices=[bottom.device] if bottom.is_cuda else []):
            torch.manual_seed(seed)
            return self._call(values, bottom)

    def _call(self, values: dict[str, Tensor], bottom: Tensor) -> Tensor:
        top: Tensor = functional_call(self.block, values, (bottom,))
        return top


def _filler(values: dict[str, Tensor] | None, key: str) -> Callable[[Tensor], object] | None:
    return None if values is None else lambda blob: blob.copy_(values[key])


@lru_cache(maxsize=1024)
def _run_without_values(name: str, index: int, bottom: Shape) -> tuple[Shape, int]:
    """The top's shape, and multiplications and additions, of a block."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        top: Any = _without_values(name, index)(torch.empty(bottom, device="meta"))
    return tuple(top.shape), int(counter.get_total_flops())


@cache
def _without_values(name: str, index: int) -> nn.Module:
    module: nn.Module = deepcopy(blocks_of(name).blocks[index].module)
    return module.to("meta").eval()
