"""What a network costs to train, in floating point operations, from its prototxts alone."""

from pathlib import Path

from caffe_compat.net.flops import training_flops as flops_of_step
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.learned_layers import shape_graph


def training_flops(folder: Path, channels: int = 3, size_px: int = 256) -> float:
    """Operations to train the network of a run folder, tests left out; its images have so many channels and pixels.

    Multiplications and additions of the layers that are matrix products, forward and backward
    (``caffe_compat.net.flops``).
    """
    solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter())
    graph = shape_graph(folder / "train.prototxt", "TRAIN", channels, size_px)
    return float(sum(flops_of_step(step, graph.shapes) for step in graph.steps)) * solver.max_iter
