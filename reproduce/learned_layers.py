"""Which layers of a net learn, where it can be cut, and which of them are its classifiers: read from the net itself."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from caffe_compat.errors import ProtoError
from caffe_compat.layers.base import LayerContext
from caffe_compat.layers.base import count as count_of
from caffe_compat.net.graph import Graph, Step
from caffe_compat.net.phase_rules import filter_net
from caffe_compat.net.splits import insert_splits
from caffe_compat.proto import Source, caffe_pb2, read_net
from reproduce import torchvision_blocks

#: the layer type that nets of --model have; who reads nets has to know it
BLOCK = torchvision_blocks.TorchvisionBlock

#: what a test net has to put out: a number each
TEST_OUTPUTS = ("accuracy", "loss")


@dataclass(frozen=True)
class LearnedLayers:
    """The layers with parameters of one net, from the input.

    A net is cut behind a layer that multiplies by its weights (Convolution, InnerProduct, ...).  Layers whose
    parameters do no more than scale and shift (BatchNorm, Scale, PReLU) go with the one before them.
    """

    cuts: tuple[tuple[str, ...], ...]  # layers from one cut to the next, the classifiers left out
    classifiers: tuple[str, ...]  # the last before a layer that takes the labels; never kept
    blobs: dict[str, int]  # how many parameters each layer has

    @property
    def names(self) -> tuple[str, ...]:
        """The layer that each cut lies behind, that which multiplies; n = 1 first."""
        return tuple(group[0] for group in self.cuts)

    def kept(self, n: int) -> set[str]:
        """The layers before cut ``n``."""
        return {name for group in self.cuts[:n] for name in group}

    def new(self, n: int) -> set[str]:
        """The layers behind cut ``n``."""
        return set(self.blobs) - self.kept(n)


@cache
def learned_layers(file: Path, channels: int, size_px: int) -> LearnedLayers:
    """Those of the training net in ``file`` on images of ``size_px`` pixels, where it crops none.

    Raises CaffeCompatError for a net that Caffe would refuse, or that has nothing to cut.
    """
    graph = shape_graph(file, "TRAIN", channels, size_px)
    labels = _label_blobs(graph)
    before: dict[int, set[str]] = {}  # blob -> the layers that multiply and were passed last on the way to it
    classifiers = set[str]()
    multiply = [step for step in graph.steps if step.layer.blobs and _multiplies(step, graph)]
    for step in graph.steps:
        sources = set().union(*(before.get(bottom, set()) for bottom in step.bottoms if bottom not in labels))
        if any(bottom in labels for bottom in step.bottoms):
            classifiers |= sources
        for top in step.tops:
            before[top] = {step.layer.name} if step in multiply else sources
    cuts: list[list[str]] = []
    behind = set(classifiers)  # classifiers, and what scales and shifts their outputs
    for step in graph.steps:
        name = step.layer.name
        if not step.layer.blobs or name in classifiers:
            continue
        if step in multiply or not cuts:
            cuts.append([name])
        elif before[step.tops[0]] <= classifiers:
            behind.add(name)
        else:
            cuts[-1].append(name)
    if not classifiers or not cuts:
        lacks = "no layer with weights before the cut" if classifiers else "no layer takes the labels"
        raise ProtoError(
            f"{file}: {lacks}; expected layers that learn, then a classifier and a loss on data and labels"
        )
    blobs = {step.layer.name: len(step.layer.blobs) for step in graph.steps if step.layer.blobs}
    return LearnedLayers(tuple(map(tuple, cuts)), tuple(name for name in blobs if name in behind), blobs)


@cache
def check_test_net(file: Path, channels: int, size_px: int) -> None:
    """ProtoError unless the test net in ``file`` puts out one number each as accuracy and loss."""
    graph = shape_graph(file, "TEST", channels, size_px)
    index = {name: number for number, name in enumerate(graph.blob_names)}
    for name in TEST_OUTPUTS:
        if name not in graph.outputs or count_of(graph.shapes[index[name]]) != 1:
            outputs = ", ".join(graph.outputs) or "none"
            raise ProtoError(
                f"{file}: no output {name} of one number; outputs: {outputs}; expected tops named "
                f"{' and '.join(TEST_OUTPUTS)} that no other layer reads"
            )


def shape_graph(file: Path, phase: str, channels: int, size_px: int) -> Graph:
    """The layers of a net with their shapes, without memory; its database need not be there."""
    source = Source(str(file))
    net = _with_input(net_of_phase(file, phase), channels, size_px)
    return Graph(insert_splits(net, source), LayerContext(source=source, shapes_only=True, phase=phase))


def net_of_phase(file: Path, phase: str) -> caffe_pb2.NetParameter:
    """The net of a file in today's form, with the layers of one phase ("TRAIN", "TEST"), a Data layer first.

    Raises CaffeCompatError for another net.
    """
    net = read_net(file)
    net.state.phase = caffe_pb2.TRAIN if phase == "TRAIN" else caffe_pb2.TEST
    net = filter_net(net, Source(str(file)))
    if not net.layer or not net.layer[0].HasField("data_param") or len(net.layer[0].top) != 2:
        raise ProtoError(
            f"{file}: the first layer is no Data layer with tops for images and labels; expected one, as run_paper.py "
            "puts its databases there"
        )
    return net


def _with_input(net: caffe_pb2.NetParameter, channels: int, size_px: int) -> caffe_pb2.NetParameter:
    """The net with an Input layer in place of its data layer."""
    data = net.layer[0]
    batch, side = data.data_param.batch_size, data.transform_param.crop_size or size_px
    source = caffe_pb2.LayerParameter(name=data.name, type="Input", top=data.top)
    for dims in ([batch, channels, side, side], [batch]):
        source.input_param.shape.add(dim=dims)
    net.layer[0].CopyFrom(source)
    return net


def _label_blobs(graph: Graph) -> set[int]:
    """The labels, and what Split layers make of them."""
    labels = {graph.steps[0].tops[1]}
    for step in graph.steps[1:]:
        if step.bottoms and all(bottom in labels for bottom in step.bottoms):
            labels.update(step.tops)
    return labels


def _multiplies(step: Step, graph: Graph) -> bool:
    return step.layer.flops([graph.shapes[i] for i in step.bottoms], [graph.shapes[i] for i in step.tops]) > 0
