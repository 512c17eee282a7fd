"""All measurements on the finished networks of a folder, as a tidy table: one row a measurement."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from caffe_compat.errors import DataError
from reproduce.diagnostics import TABLE
from reproduce.diagnostics.cka import alignment, centred_gram
from reproduce.diagnostics.measurements import Measurement, write_measurements
from reproduce.diagnostics.reinitialised import reinitialised_accuracies
from reproduce.diagnostics.stitching import stitch
from reproduce.diagnostics.trained_network import TrainedNetwork
from reproduce.diagnostics.training_loss import final_training_loss
from reproduce.every_test import run_seed, seed_of
from reproduce.folder_networks import networks_in
from reproduce.network import Network
from reproduce.options import Options
from reproduce.results import DONE
from reproduce.treatments import BASE, NETBASE

#: Gram matrices of reference networks that are kept, each of all layers
KEPT = 6


def diagnose(out: Path, options: Options, tell: Callable[[str], None] = print) -> list[Measurement]:
    """Measure all finished networks of ``out`` and write ``diagnostics.csv``, whole or not at all.

    ``options``: which ``measures``, how many ``images`` for CKA, how long to train each stitch, the device.
    ``tell`` gets a line for each measure.  Raises DataError where no network is finished.
    """
    networks = [network for network in networks_in(out) if (out / network.name / DONE).exists()]
    if not networks:
        raise DataError(f"{out}: no network is finished here; `status {out}` says where each is")
    job = _Job(out, networks, options, tell, run_seed(out))
    rows: list[Measurement] = []
    for measure in options.measures:
        found = list(_MEASURES[measure](job))
        tell(f"{measure}: {len(found)} measurements")
        rows += found
    write_measurements(rows, out / TABLE)
    tell(f"{out / TABLE}: {len(rows)} measurements of {len(networks)} networks")
    return rows


@dataclass(frozen=True)
class _Job:
    out: Path
    networks: Sequence[Network]
    options: Options
    tell: Callable[[str], None]
    seed: str

    def open(self, network: Network) -> TrainedNetwork:
        """The network, to look into."""
        return TrainedNetwork(network, self.out, self.options.devices[0])

    def bases(self) -> list[Network]:
        """The networks of halves."""
        return BASE.of(self.networks)

    def named(self, name: str) -> Network | None:
        """A finished network."""
        return next((network for network in self.networks if network.name == name), None)

    def own_base(self, network: Network) -> Network | None:
        """The network trained from scratch on the same images with the same seed, where it is finished."""
        among = self.bases() if network.split else NETBASE.of(self.networks)
        same = [b for b in among if (b.split, b.target, b.seed) == (network.split, network.target, network.seed)]
        return next(iter(same), None)

    def row(self, measure: str, network: Network, value: float, *, layer: str = "", reference: str = "") -> Measurement:
        """A measurement of a network."""
        seed = seed_of(network, self.seed)
        return Measurement.of(network, measure=measure, value=value, seed=seed, reference=reference, layer=layer)


def _losses(job: _Job) -> Iterator[Measurement]:
    """The training loss at the end, and how much it is above that of the base network on the same images."""
    losses = {network.name: final_training_loss(network, job.out) for network in job.networks}
    for network in job.networks:
        loss, base = losses[network.name], job.own_base(network)
        if loss is None:
            job.tell(f"{network.name}: its log shows no loss in the last tenth of the run")
            continue
        yield job.row("training_loss", network, loss)
        reference = losses[base.name] if base and base != network else None
        if base and reference is not None:
            yield job.row("training_loss_gap", network, loss - reference, reference=base.name)


def _alignments(job: _Job) -> Iterator[Measurement]:
    """CKA of each layer with the network that it starts from, and with the one from scratch on the same images."""
    grams: dict[tuple[str, str], list[torch.Tensor]] = {}

    def grams_of(network: Network, data: str, images: TrainedNetwork) -> list[torch.Tensor]:
        if (network.name, data) not in grams:
            trained = images if images.network == network else job.open(network)
            chosen = spread(len(images.images), job.options.images)
            while len(grams) >= KEPT:
                del grams[next(iter(grams))]
            grams[network.name, data] = [centred_gram(f) for f in trained.features(images.images, chosen)]
        return grams[network.name, data]

    for network in job.networks:
        started = job.named(network.base_network)
        references = {base.name: base for base in (started, job.own_base(network)) if base and base != network}
        if not references:
            continue
        mine = job.open(network)
        data = network.test_data
        own = grams_of(network, data, mine)
        for name, reference in references.items():
            theirs = grams_of(reference, data, mine)
            for layer, one, other in zip(mine.layers(), own, theirs, strict=True):
                plain = layer.removesuffix("-new")
                yield job.row("cka", network, alignment(one, other), layer=plain, reference=name)
        grams.pop((network.name, data), None)


def _stitches(job: _Job) -> Iterator[Measurement]:
    """Each half's upper layers on the other half's lower ones, at each cut; ``reference`` has the lower ones."""
    for upper in job.bases():
        other = [b for b in job.bases() if (b.split, b.seed) == (upper.split, upper.seed) and b != upper]
        for lower in other:
            trained = job.open(lower), job.open(upper)
            for cut in trained[1].cuts():
                found = stitch(*trained, cut, iterations=job.options.stitch_iters)
                whole = partial(job.row, layer=cut.layer, reference=lower.name)
                yield whole("stitched_accuracy_start", upper, found.start)
                yield whole("stitched_accuracy", upper, found.trained)


def _resets(job: _Job) -> Iterator[Measurement]:
    """A base network's accuracy, and that with one layer put back to its initial values."""
    for network in (*job.bases(), *NETBASE.of(job.networks)):
        trained = job.open(network)
        yield job.row("accuracy", network, trained.accuracy())
        for layer, value in reinitialised_accuracies(trained):
            yield job.row("reinitialised_accuracy", network, value, layer=layer)


def spread(count: int, most: int) -> list[int]:
    """``most`` of ``count`` indices, or all, evenly spread: databases of tests are often ordered by class."""
    return [math.floor(i * count / most) for i in range(most)] if count > most else list(range(count))


_MEASURES: dict[str, Callable[[_Job], Iterator[Measurement]]] = {
    "loss": _losses,
    "cka": _alignments,
    "stitch": _stitches,
    "reset": _resets,
}
