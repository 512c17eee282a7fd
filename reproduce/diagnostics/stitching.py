"""Stitching: the lower layers of one network and the upper layers of another, joined by a linear map that is trained.

Lenc and Vedaldi, *Understanding image representations by measuring their equivariance and equivalence*, CVPR 2015;
Bansal, Nakkiran and Barak, *Revisiting Model Stitching to Compare Neural Representations*, NeurIPS 2021.

What is trained is the map alone: a 1x1 convolution with bias between feature maps, an inner product with bias between
flat layers, channels to channels.  It stands where the upper part begins, behind the lower part's ReLU, pooling and
normalisation.  It starts as the least-squares solution from the lower network's values there to the upper network's,
on the first training batches, and is then trained on the upper network's task.  Both networks are in their TEST form
all the while: no dropout, BatchNorm by its running averages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caffe_compat import Net, random
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from reproduce.diagnostics.trained_network import BATCH, Cut, TrainedNetwork, absolute, accuracy
from reproduce.learned_layers import net_of_phase

#: Adam's steps by default, and their size
ITERATIONS = 200
RATE = 1e-3
#: training batches that the least squares take
START_BATCHES = 8
#: of the mean square of the lower values, added to each in the least squares, which may have no single solution
RIDGE = 1e-3


@dataclass(frozen=True)
class Stitched:
    """The share of the upper network's test images that a stitched network gets right, from 0 to 1."""

    start: float  # with the least-squares map
    trained: float


class LinearMap(nn.Module):
    """y = W x + b over the channels (axis 1) of (N, C) or (N, C, H, W)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """``weight`` (outputs, inputs), ``bias`` (outputs,)."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, values: Tensor) -> Tensor:
        """See the class."""
        return torch.einsum("oc,nc...->no...", self.weight, values) + self.bias.view(-1, *[1] * (values.ndim - 2))


class _Joined:
    """Lower net, map, upper net."""

    def __init__(self, lower: TrainedNetwork, upper: TrainedNetwork, cut: Cut) -> None:
        self._lower, self._upper, self._cut = lower, upper, cut
        self._below = lower.lower(cut)
        self._map = LinearMap(torch.ones(1, 1), torch.zeros(1))
        self._above = self._below

    def begin(self, pixels: Tensor) -> None:
        """The least-squares map on these training images (N, C, H, W), and the upper part for its values."""
        own = self._upper.lower(self._cut)
        x = torch.cat([self._values(self._below, self._lower, part) for part in pixels.split(BATCH)])
        y = torch.cat([self._values(own, self._upper, part) for part in pixels.split(BATCH)])
        if x.shape[2:] != y.shape[2:]:
            sizes = " and ".join("x".join(map(str, values.shape[2:])) or "1" for values in (x, y))
            names = f"{self._lower.network.name} and {self._upper.network.name}"
            raise DataError(f"{names}: values behind {self._cut.layer} are of {sizes} pixels; expected the same")
        self._map = least_squares(x, y)
        self._above = self._upper.upper(self._cut, (BATCH, *y.shape[1:])).requires_grad_(requires_grad=False)

    def outputs(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Accuracy and loss of a batch; the loss has a gradient for the map."""
        values = self._map(self._values(self._below, self._lower, pixels))
        outputs: dict[str, Tensor] = self._above({self._cut.blob: values, self._upper.labels: labels})
        return outputs

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""
        return self._map.parameters()

    def accuracy(self) -> float:
        """Of the upper network's test images, prepared as the lower network's are."""
        images = self._upper.images
        batches = (self._lower.inputs(images, some.tolist()) for some in torch.arange(len(images)).split(BATCH))
        return accuracy(batches, lambda pixels, labels: self.outputs(pixels, labels)["accuracy"])

    @torch.no_grad()
    def _values(self, net: Net, of: TrainedNetwork, pixels: Tensor) -> Tensor:
        return net.extract([self._cut.blob], {of.pixels: pixels})[self._cut.blob]


def stitch(lower: TrainedNetwork, upper: TrainedNetwork, cut: Cut, *, iterations: int = ITERATIONS) -> Stitched:
    """Join ``lower`` up to ``cut`` with ``upper`` from there on, and train the map between with Adam.

    Training batches are those of the lower network's data layer (size, crops, mirroring, mean image) on the upper one's
    training images, as for a transfer network that starts from it; the crops have a seed of their own.
    Raises DataError where the two networks' values at the cut differ in size.
    """
    joined = _Joined(lower, upper, cut)
    with random.scope(seed=0):
        data = _training_data(lower, upper)
        try:
            joined.begin(torch.cat([data.next_batch()[lower.pixels] for _ in range(START_BATCHES)]))
            start = joined.accuracy()
            optimizer = torch.optim.Adam(joined.parameters(), lr=RATE)
            for _ in range(iterations):
                batch = data.next_batch()
                optimizer.zero_grad()
                joined.outputs(batch[lower.pixels], batch[lower.labels])["loss"].backward()
                optimizer.step()
        finally:
            data.close()
    return Stitched(start, joined.accuracy())


def least_squares(x: Tensor, y: Tensor) -> LinearMap:
    """The map from ``x`` (N, C, ...) to ``y`` (N, D, ...) of least mean square error, the ridge aside; in float64."""
    rows_x, rows_y = (values.movedim(1, -1).flatten(0, -2).double() for values in (x, y))
    mean_x, mean_y = rows_x.mean(0), rows_y.mean(0)
    rows_x, rows_y = rows_x - mean_x, rows_y - mean_y
    square = rows_x.T @ rows_x
    ridge = (RIDGE * square.diagonal().mean()).clamp(min=torch.finfo(torch.float64).tiny)
    weight = torch.linalg.solve(square + ridge * torch.eye(len(square)).to(square), rows_x.T @ rows_y).T
    return LinearMap(weight.to(x.dtype).contiguous(), (mean_y - weight @ mean_x).to(x.dtype))


def _training_data(lower: TrainedNetwork, upper: TrainedNetwork) -> Net:
    """A net of one data layer: the lower network's, on the upper one's training images."""
    layers = [net_of_phase(of.folder / "train.prototxt", "TRAIN").layer[0] for of in (lower, upper)]
    data, theirs = (absolute(layer, of.folder) for layer, of in zip(layers, (lower, upper), strict=True))
    data.data_param.source = theirs.data_param.source
    net = caffe_pb2.NetParameter(name="training images")
    net.layer.append(data)
    return Net(net, phase="TRAIN").to(lower.device)
