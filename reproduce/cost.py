"""What a network costs to train, in floating point operations, from its prototxts alone."""

from pathlib import Path
from typing import Any

from caffe_compat.proto import caffe_pb2, read_message


def training_flops(folder: Path, channels: int = 3) -> float:
    """Operations to train the network of a run folder, tests left out.

    A multiplication counts as two operations: the addition that follows it, too.  Each learned layer multiplies as
    often in the backward pass for the gradient of its weights, and again for that of its input, where they are needed.
    """
    net = read_message(folder / "train.prototxt", caffe_pb2.NetParameter())
    solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter())
    total, trained = 0.0, False
    for layer, products in _forward_products(net, channels):
        rates = list(layer.blobs_lr) or [1.0]
        learns = any(rates)
        # Below the lowest trained layer nothing flows back; that layer itself needs no gradient of its input.
        total += products * (1 + learns + trained)
        trained = trained or learns
    images = int(net.layers[0].layer.batchsize) * int(solver.max_iter)
    return 2 * total * images


def _forward_products(net: Any, channels: int) -> list[tuple[Any, int]]:
    """(layer, multiplications per image in the forward pass) of each learned layer of a V0 net that is a chain."""
    size = net.layers[0].layer.cropsize
    found = []
    for layer in (connection.layer for connection in net.layers):
        if layer.type == "padding":
            size += 2 * layer.pad
        elif layer.type == "conv":
            size = (size + 2 * layer.pad - layer.kernelsize) // layer.stride + 1
            found.append((layer, size**2 * layer.num_output * channels // layer.group * layer.kernelsize**2))
            channels = layer.num_output
        elif layer.type == "pool":
            size = -(-(size - layer.kernelsize) // layer.stride) + 1
        elif layer.type == "innerproduct":
            found.append((layer, size**2 * channels * layer.num_output))
            channels, size = layer.num_output, 1
    return found
