"""What a network costs, in floating point operations and in bytes, from its prototxts alone."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from caffe_compat.net.flops import forward_flops
from caffe_compat.net.flops import training_flops as flops_of_step
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.learned_layers import shape_graph

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Of one network, from the first iteration to the last test."""

    iterations: int
    step_flops: float  # of an iteration, forward and backward
    test_batches: int  # of all tests together
    test_flops: float  # of one of them
    snapshot_bytes: int  # weights and the solver's history, of one snapshot
    snapshots: int  # that lie there just before it is finished; the last one stays

    @property
    def training(self) -> float:
        """Operations of all iterations, tests left out."""
        return self.step_flops * self.iterations

    @property
    def tests(self) -> float:
        """Operations of all tests."""
        return self.test_flops * self.test_batches

    @property
    def all(self) -> float:
        """Operations of all iterations and tests."""
        return self.training + self.tests


def cost_of(folder: Path, channels: int = 3, size_px: int = 256) -> Cost:
    """What the network of a run folder costs; its images have so many channels and pixels.

    Operations are the multiplications and additions of the layers that are matrix products
    (``caffe_compat.net.flops``).  Tests come before the first iteration, every ``test_interval``, and so at the end.
    """
    solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter())
    train = shape_graph(folder / "train.prototxt", "TRAIN", channels, size_px)
    test = shape_graph(folder / "val.prototxt", "TEST", channels, size_px)
    tests = solver.max_iter // solver.test_interval + solver.test_initialization
    weights = sum(prod(blob.shape) for step in train.steps for blob in step.layer.blobs)
    return Cost(
        iterations=solver.max_iter,
        step_flops=float(sum(flops_of_step(step, train.shapes) for step in train.steps)),
        test_batches=tests * sum(solver.test_iter),
        test_flops=float(sum(forward_flops(step, test.shapes) for step in test.steps)),
        snapshot_bytes=2 * weights * _FLOAT_BYTES,
        snapshots=solver.max_iter // solver.snapshot if solver.snapshot else 1,
    )
