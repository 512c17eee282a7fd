"""What a network costs to train, in floating point operations, from its prototxts alone."""

from pathlib import Path

from caffe_compat.layers.base import LayerContext
from caffe_compat.net.flops import training_flops as flops_of_step
from caffe_compat.net.graph import Graph
from caffe_compat.net.splits import insert_splits
from caffe_compat.proto import Source, caffe_pb2, read_message, read_net


def training_flops(folder: Path, channels: int = 3) -> float:
    """Operations to train the network of a run folder, tests left out; its images have so many channels.

    Multiplications and additions of the layers that are matrix products, forward and backward
    (``caffe_compat.net.flops``).
    """
    solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter())
    source = Source(str(folder / "train.prototxt"))
    net = insert_splits(_with_input(read_net(folder / "train.prototxt"), channels), source)
    graph = Graph(net, LayerContext(source=source, shapes_only=True))
    return float(sum(flops_of_step(step, graph.shapes) for step in graph.steps)) * solver.max_iter


def _with_input(net: caffe_pb2.NetParameter, channels: int) -> caffe_pb2.NetParameter:
    """The net with an Input layer in place of its data layer, whose database may not be there yet."""
    data = net.layer[0]
    batch, crop_px = data.data_param.batch_size, data.transform_param.crop_size
    source = caffe_pb2.LayerParameter(name=data.name, type="Input", top=data.top)
    for dims in ([batch, channels, crop_px, crop_px], [batch])[: len(data.top)]:
        source.input_param.shape.add(dim=dims)
    net.layer[0].CopyFrom(source)
    return net
