"""A finished network, to look into: its test images, what each layer says of them, and the net in two parts.

N C H W: images of a batch, channels, height, width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat import Net
from caffe_compat.data import LMDBDataset, Transformer
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.learned_layers import LearnedLayers, learned_layers, net_of_phase
from reproduce.network import Network
from reproduce.run_folder import final_snapshot

#: what a net of 2013 cannot say of its database
LMDB = caffe_pb2.DataParameter.LMDB
#: images that go through a net at a time
BATCH = 50
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """Where a net comes apart: behind its first n learned layers, before the next one."""

    n: int
    layer: str  # the last one that learns below
    position: int  # in the net's message, of the first layer above
    blob: str  # what goes from below to above


class TrainedNetwork:
    """The network of a finished folder in its TEST form, with the weights of its last snapshot."""

    def __init__(self, network: Network, out: Path, device: str = "cpu") -> None:
        """Raises CaffeCompatError or OSError when files of the folder are missing or damaged."""
        self.network, self.device = network, torch.device(device)
        self.folder = out / network.name
        self.message = net_of_phase(self.folder / "val.prototxt", "TEST")
        data = absolute(self.message.layer[0], self.folder)
        self.pixels, self.labels = data.top
        self.transformer = Transformer.from_param(data.transform_param, "TEST")
        self.images = LMDBDataset(data.data_param.source)
        channels, height, width = self.images[0][0].shape
        self.learned: LearnedLayers = learned_layers(self.folder / "train.prototxt", channels, min(height, width))
        solver = read_message(self.folder / "solver.prototxt", caffe_pb2.SolverParameter())
        self.weights = self.folder / final_snapshot(solver)
        if not self.weights.exists():
            raise DataError(f"{self.weights}: is missing; remove the folder {self.folder} to train this network again")
        self.net = self.part(1, None, {})

    def inputs(self, images: LMDBDataset, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) of a database, prepared as this network's test images are, and labels (N,)."""
        records = [images[index] for index in indices]
        pixels = np.stack([self.transformer(image.numpy()) for image, _ in records])
        return torch.from_numpy(pixels).to(self.device), torch.tensor([label for _, label in records]).to(self.device)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Its own test images and labels, all of them once."""
        for indices in torch.arange(len(self.images)).split(BATCH):
            yield self.inputs(self.images, indices.tolist())

    def accuracy(self) -> float:
        """The share of its test images that it names rightly, from 0 to 1."""
        return accuracy(self.batches(), self._of_whole)

    def _of_whole(self, pixels: Tensor, labels: Tensor) -> Tensor:
        outputs: dict[str, Tensor] = self.net({self.pixels: pixels, self.labels: labels})
        return outputs["accuracy"]

    def layers(self) -> list[str]:
        """The blobs whose values ``features`` gives: behind each cut, then what the classifiers put out."""
        groups = [*self.learned.cuts, *([name] for name in self.learned.classifiers)]
        tops = {layer.name: layer.top[0] for layer in self.message.layer}
        return [tops[name] for name in (group[-1] for group in groups) if name in tops]  # some are in training only

    @torch.no_grad()
    def features(self, images: LMDBDataset, indices: Sequence[int]) -> Iterator[Tensor]:
        """For each of ``layers``, in order, its values (N, ...) for some images of a database, on the CPU."""
        names = self.layers()
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for some in torch.tensor(indices).split(BATCH):
            pixels, labels = self.inputs(images, some.tolist())
            for name, value in self.net.extract(names, {self.pixels: pixels, self.labels: labels}).items():
                found[name].append(value.cpu())
        for name in names:
            yield torch.cat(found.pop(name))

    def cuts(self) -> list[Cut]:
        """Where the net comes apart with one blob between; cuts inside branches are left out."""
        order = {layer.name: i for i, layer in enumerate(self.message.layer)}
        learning = sorted(order[name] for name in self.learned.blobs if name in order)
        found = []
        for n, group in enumerate(self.learned.cuts, 1):
            last = max(order[name] for name in self.learned.kept(n))
            position = min((place for place in learning if place > last), default=None)
            if position is None or any(order[name] < last for name in self.learned.new(n) if name in order):
                continue
            between = self._between(position)
            if len(between) == 1:
                found.append(Cut(n, group[-1], position, between[0]))
        return found

    def lower(self, cut: Cut) -> Net:
        """The net below a cut; puts out its blob."""
        return self.part(1, cut.position, {})

    def upper(self, cut: Cut, shape: Shape) -> Net:
        """The net above a cut, which takes the cut's blob, of ``shape``, and labels."""
        return self.part(cut.position, None, {cut.blob: shape})

    def part(self, start: int, stop: int | None, given: dict[str, Shape]) -> Net:
        """Layers ``start`` to ``stop`` of the net, with Input layers for ``given`` and what they take of the data."""
        layers = list(self.message.layer)[start:stop]
        read = {name for layer in layers for name in layer.bottom}
        _, height, width = self.transformer.output_shape(*self.images[0][0].shape)
        channels = self.images[0][0].shape[0]
        batch = next((shape[0] for shape in given.values()), BATCH)
        shapes: dict[str, Shape] = {self.pixels: (batch, channels, height, width), self.labels: (batch,), **given}
        net = caffe_pb2.NetParameter(name=self.message.name)
        for name in (name for name in shapes if name in read):
            layer = net.layer.add(name=f"input {name}", type="Input", top=[name])
            layer.input_param.shape.add(dim=shapes[name])
        net.layer.extend(layers)
        made = Net(net, phase="TEST").to(self.device)
        if made.params:
            made.copy_from(self.weights, warn=False)
        return made

    def _between(self, position: int) -> list[str]:
        """The blobs that layers from ``position`` on read from those before, labels left out."""
        written: set[str] = set()
        found: dict[str, None] = {}
        for layer in list(self.message.layer)[position:]:
            found |= {name: None for name in layer.bottom if name not in written and name != self.labels}
            written |= set(layer.top)
        return list(found)


def absolute(data: Any, folder: Path) -> Any:
    """A copy of a Data layer whose paths, relative to a network's folder, are good from anywhere."""
    layer = caffe_pb2.LayerParameter()
    layer.CopyFrom(data)
    layer.data_param.source, layer.data_param.backend = str(folder / layer.data_param.source), LMDB
    if layer.transform_param.mean_file:
        layer.transform_param.mean_file = str(folder / layer.transform_param.mean_file)
    return layer


@torch.no_grad()
def accuracy(batches: Iterator[tuple[Tensor, Tensor]], of: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean over all images of what ``of`` gives as the mean over a batch."""
    right, count = 0.0, 0
    for pixels, labels in batches:
        right += float(of(pixels, labels)) * len(labels)
        count += len(labels)
    return right / count
