"""Fast mode: chains of layers that run as one operator, with the outputs of the layer-by-layer mode.

    chain                                                        operator
    [ReLU] Pooling (MAX) [ReLU] [LRN (ACROSS_CHANNELS)]          ops.max_pool, ops.relu_pool_lrn

A chain is found by the layers' types and fields.  Whether its operator takes the tensor at hand is asked at each run;
where it does not, and where a layer in the chain has hooks, its layers run one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from caffe_compat.layers.base import Layer
from caffe_compat.layers.lrn import LRN
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.relu import ReLU
from caffe_compat.net.graph import Graph, Step
from caffe_compat.ops import max_pool, relu_pool_lrn


@dataclass
class Chain:
    """Steps of which each reads only what the one before it writes."""

    steps: list[Step]

    @property
    def hidden(self) -> set[int]:
        """Blobs that running as one does not make."""
        return {step.tops[0] for step in self.steps[:-1]} - {self.steps[-1].tops[0]}

    def run(self, values: dict[int, Tensor]) -> None:
        """Like ``Step.run``, for all steps at once."""
        first = self.steps[0]
        bottom = values[first.bottoms[0]]
        top = None
        if not any(_has_hooks(step.layer) for step in self.steps):
            top = self.operate(bottom.detach() if first.detach[0] else bottom)
        if top is not None:
            values[self.steps[-1].tops[0]] = top
            return
        for step in self.steps:
            step.run(values)

    def operate(self, bottom: Tensor) -> Tensor | None:
        """The last top; None where the operator does not take this bottom."""
        raise NotImplementedError


@dataclass
class PoolChain(Chain):
    """MAX pooling with ReLU before or behind it (the same: both only compare), then LRN."""

    pooling: Pooling
    relu: bool
    lrn: LRN | None

    def operate(self, bottom: Tensor) -> Tensor | None:
        window = self.pooling.max_pool_window(bottom)
        if window is None:
            return None
        if self.lrn is None:
            return max_pool(bottom, *window, self.relu)
        lrn = self.lrn
        return relu_pool_lrn(bottom, *window, self.relu, lrn.local_size, lrn.alpha, lrn.beta, lrn.k)


def find_chains(graph: Graph) -> list[Step | Chain]:
    """The steps of ``graph`` in order, with each chain in the place of its first step."""
    units: list[Step | Chain] = []
    taken: set[int] = set()
    for place, step in enumerate(graph.steps):
        if id(step) in taken:
            continue
        chain = _pool_chain(_line_from(place, graph.steps))
        units.append(chain or step)
        taken.update(id(s) for s in (chain.steps if chain else [step]))
    return units


def _line_from(place: int, steps: Sequence[Step]) -> list[Step]:
    """The step at ``place`` and what follows it as long as one blob alone leads from each step to the next."""
    line = [steps[place]]
    for step in steps[place + 1 :]:
        last = line[-1]
        if len(last.tops) != 1 or len(last.bottoms) != 1 or any(last.loss_weights):
            break
        # Split layers see to it that a top has one reader.
        if last.tops[0] not in step.bottoms:
            continue
        if len(step.bottoms) != 1 or len(step.tops) != 1 or any(step.detach) or any(step.loss_weights):
            break
        line.append(step)
    return line


def _has_hooks(layer: Layer) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _is_relu(step: Step | None) -> bool:
    layer = step.layer if step else None
    return isinstance(layer, ReLU) and layer.negative_slope == 0 and layer.engine != "CUDNN"


def _pool_chain(line: Sequence[Step]) -> PoolChain | None:
    rest = [*line, None, None, None]  # so that looking ahead finds something
    before = _is_relu(rest[0])
    pooling = rest[before]
    if pooling is None or not isinstance(pooling.layer, Pooling) or pooling.layer.engine == "CUDNN":
        return None
    behind = not before and _is_relu(rest[1])
    count = 1 + before + behind
    lrn = rest[count].layer if rest[count] else None
    if not (isinstance(lrn, LRN) and lrn.norm_region == "ACROSS_CHANNELS" and lrn.engine != "CUDNN"):
        lrn = None
    count += lrn is not None
    return PoolChain(list(line[:count]), pooling.layer, before or behind, lrn) if count > 1 else None
