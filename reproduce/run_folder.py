"""The folder of one network: train, val and solver prototxts derived from those of a base network.

    python reproduce/run_folder.py --out runs     writes the folders of the paper's 170 networks

The files are in the form of the base network's: the paper's is Caffe's of 2013.  All paths in them are
relative to the folder.  ``caffe1_*.prototxt`` say the same in today's form, for Caffe 1.0 itself: a net
of 2013 cannot say that its database is an LMDB.
"""

if __name__ == "__main__" and not __package__:
    import from_checkout  # noqa: F401

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, read_message, read_net
from reproduce.folder_networks import write_network
from reproduce.network import Network
from reproduce.plan import paper_networks
from reproduce.treatments import BASE

if TYPE_CHECKING:
    from reproduce.learned_layers import LearnedLayers

#: a link in a checkout, where the folder stands at the top; in an installed package a copy
PROTOTXT = (Path(__file__).parent / "prototxt").resolve()
#: counts of a solver that shrink with its length
COUNTS = ("max_iter", "stepsize", "test_interval", "snapshot", "display")


@dataclass(frozen=True)
class RunSettings:
    """What is the same for all networks of a run."""

    prototxt: Path = PROTOTXT / "paper"  # the folder with base/, and netbase/ and reduced/ where they differ
    outputs: int | None = None  # outputs of fc8; None: as in the prototxt
    scale: float = 1.0  # of max_iter; the schedule, tests, displays and snapshots shrink with it
    seed: int | None = None  # each network's random_seed follows from it and from the name
    same_crops: bool = False  # networks that train on one data set see the same windows and mirrors
    test_images: tuple[tuple[str, int], ...] = ()  # (data set, test images): one test passes over them once
    same_numbers: bool = False  # one pass only where a test of the solver's length is whole passes
    solver_mode: str = "GPU"
    channels: int = 3  # of the images
    size_px: int = 256  # of the images


def write_run_folder(network: Network, settings: RunSettings, out: Path) -> Path:
    """Write the prototxts of ``network`` into ``out/<name>`` and return that folder.

    The solver comes last: where there is one, the folder is whole and stays as it is.
    Raises ProtoError for a wrong base prototxt, OSError when the folder cannot be written.
    """
    folder = out / network.name
    if (folder / "solver.prototxt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_network(network, folder)
    train, val = _net(network, settings, "train"), _net(network, settings, "val")
    solver = _solver(network, settings, val)
    for name, net in (("train", train), ("val", val)):
        write_text(folder / f"{name}.prototxt", _text(net))
        upgraded = read_net(folder / f"{name}.prototxt")
        upgraded.layer[0].data_param.backend = caffe_pb2.DataParameter.LMDB
        write_text(folder / f"caffe1_{name}.prototxt", _text(upgraded))
        if name == "train" and settings.same_crops:  # a field of NVCaffe's, which neither 2013's form nor Caffe 1.0 has
            upgraded.layer[0].transform_param.random_seed = _seed_of_crops(network, settings.seed or 0)
            write_text(folder / "train.prototxt", _text(upgraded))
    text = _text(solver)
    solver.train_net, solver.test_net[0] = "caffe1_train.prototxt", "caffe1_val.prototxt"
    write_text(folder / "caffe1_solver.prototxt", _text(solver))
    write_text(folder / "solver.prototxt", text)
    return folder


def cut_names(settings: RunSettings) -> tuple[str, ...]:
    """The layer that each cut of the base network lies behind, n = 1 first.  CaffeCompatError for a wrong net."""
    return _learned(BASE.network("0", "A"), settings).names


def _learned(network: Network, settings: RunSettings) -> "LearnedLayers":
    # Imported here: it brings PyTorch, which a wrong option need not wait for.
    from reproduce.learned_layers import learned_layers

    return learned_layers(_base_file(network, settings, "train.prototxt"), settings.channels, settings.size_px)


@dataclass(frozen=True)
class _Changes:
    """What a network's net of one phase has otherwise than the base network's."""

    source: str
    mean_file: str
    outputs: int | None  # of the classifiers; None: as they are
    classifiers: tuple[str, ...]
    frozen: dict[str, int]  # layers that stay as they are, and how many parameters each has
    new: set[str]  # layers that are made anew, and their blobs: they get the suffix -new

    def renamed(self, name: str) -> str:
        return f"{name}-new" if name in self.new else name


def _net(network: Network, settings: RunSettings, phase: str) -> Any:
    """The net of one phase: data, classifiers, and the layers kept, frozen or new."""
    from reproduce.learned_layers import check_test_net, net_of_phase

    learned = _learned(network, settings)
    file = _base_file(network, settings, f"{phase}.prototxt")
    if phase == "val":
        check_test_net(file, settings.channels, settings.size_px)
    if network.n + network.tuned > len(learned.cuts) and not network.images_per_class:
        more = f" and keeps {network.tuned} more" if network.tuned else ""
        raise ProtoError(f"{file}: {network.name} is cut at layer {network.n} of {len(learned.cuts)}{more}")
    data, part = (network.data, "train") if phase == "train" else (network.test_data, "valid")
    kept = learned.kept(network.n) if phase == "train" and network.frozen else set()
    changes = _Changes(
        source=f"../data/{data}_{part}_lmdb",
        mean_file=f"../data/{network.mean_data}_mean.binaryproto",
        outputs=settings.outputs,
        classifiers=learned.classifiers,
        frozen={name: learned.blobs[name] for name in kept},
        new=learned.new(network.n + network.tuned) if network.base_network else set(),
    )
    net = read_message(file, caffe_pb2.NetParameter())
    if net.layers and all(connection.HasField("layer") for connection in net.layers):
        _change_2013(net, changes)
        return net
    net = net_of_phase(file, "TRAIN" if phase == "train" else "TEST")
    net.ClearField("state")
    _change_today(net, changes)
    return net


def _change_2013(net: Any, changes: _Changes) -> None:
    data = net.layers[0].layer
    data.source, data.meanfile = changes.source, changes.mean_file
    for connection in net.layers:
        layer = connection.layer
        if layer.name in changes.classifiers and changes.outputs is not None:
            layer.num_output = changes.outputs
        if layer.name in changes.frozen:
            layer.blobs_lr[:] = [0] * changes.frozen[layer.name]
            layer.weight_decay[:] = [0] * changes.frozen[layer.name]
        layer.name = changes.renamed(layer.name)
        connection.bottom[:] = map(changes.renamed, connection.bottom)
        connection.top[:] = map(changes.renamed, connection.top)


def _change_today(net: Any, changes: _Changes) -> None:
    data = net.layer[0]
    data.data_param.source, data.data_param.backend = changes.source, caffe_pb2.DataParameter.LMDB
    if not data.transform_param.mean_value:  # a net may subtract numbers of its own
        data.transform_param.mean_file = changes.mean_file
    for layer in net.layer:
        if layer.name in changes.classifiers and changes.outputs is not None:
            for _, settings in layer.ListFields():
                if "num_output" in getattr(getattr(settings, "DESCRIPTOR", None), "fields_by_name", ()):
                    settings.num_output = changes.outputs
        for number in range(changes.frozen.get(layer.name, 0)):
            spec = layer.param[number] if number < len(layer.param) else layer.param.add()
            spec.lr_mult = spec.decay_mult = 0
        layer.name = changes.renamed(layer.name)
        layer.bottom[:] = map(changes.renamed, layer.bottom)
        layer.top[:] = map(changes.renamed, layer.top)


def _solver(network: Network, settings: RunSettings, val: Any) -> Any:
    solver_file = _base_file(network, settings, "solver.prototxt")
    solver = _scaled(solver_file, settings.scale)
    solver.MergeFrom(caffe_pb2.SolverParameter(solver_mode=settings.solver_mode))
    images = dict(settings.test_images).get(network.test_data)
    if images is not None:
        batches, rest = divmod(images, _batch_size(val))
        if not settings.same_numbers:
            solver.test_iter[:] = [batches + bool(rest)]
        elif batches and not rest and solver.test_iter[0] % batches == 0:
            solver.test_iter[:] = [batches]
    if settings.seed is not None:
        solver.random_seed = _random_seed(network, settings.seed)
    if network.base_network:
        base = _scaled(
            _base_file(BASE.network(network.split, network.base), settings, "solver.prototxt"), settings.scale
        )
        solver.weights[:] = [f"../{network.base_network}/{final_snapshot(base)}"]
    return solver


def _batch_size(net: Any) -> int:
    return int(net.layers[0].layer.batchsize if net.layers else net.layer[0].data_param.batch_size)


def _scaled(file: Path, scale: float) -> Any:
    """The solver of a file, its counts shrunk, its nets those of a run folder.

    Raises ProtoError for one that leaves no results, or whose snapshots would lie elsewhere.
    """
    solver = read_message(file, caffe_pb2.SolverParameter())
    counts = [(name, getattr(solver, name)) for name in COUNTS] + [("stepvalue", step) for step in solver.stepvalue]
    scaled = [(name, max(1, round(count * scale)) if count > 0 else count) for name, count in counts]
    for name, count in scaled:
        if count >= 1 << 31:
            raise ProtoError(f"{file}: {name} would be {count} by --scale or --iters; expected below 2^31")
        if name != "stepvalue" and solver.HasField(name):
            setattr(solver, name, count)
    solver.stepvalue[:] = [count for name, count in scaled if name == "stepvalue"]
    for name in ("max_iter", "test_interval"):
        if getattr(solver, name) < 1:
            raise ProtoError(f"{file}: {name} is {getattr(solver, name)}; expected at least 1: results come from tests")
    if not solver.snapshot_prefix or solver.snapshot_prefix != Path(solver.snapshot_prefix).name:
        raise ProtoError(
            f'{file}: snapshot_prefix is "{solver.snapshot_prefix}"; expected a plain name, as "caffe_train", for the '
            "snapshots lie in the network's folder"
        )
    if not solver.snapshot_after_train:
        raise ProtoError(
            f"{file}: snapshot_after_train is false; expected true: other networks start from the last snapshot"
        )
    for name in ("net", "net_param", "train_net_param", "test_net_param"):
        solver.ClearField(name)
    solver.train_net, solver.test_net[:] = "train.prototxt", ["val.prototxt"]
    solver.test_iter[:] = list(solver.test_iter)[:1] or [1]
    return solver


def final_snapshot(solver: Any) -> str:
    """File name of the weights that a finished network leaves in its folder."""
    hdf5 = solver.snapshot_format == caffe_pb2.SolverParameter.HDF5
    return f"{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel{'.h5' if hdf5 else ''}"


def _random_seed(network: Network, seed: int) -> int:
    """That of the network of the same name in a run with its seed: one run of several seeds is several runs."""
    name = network.name.removesuffix(f"-seed{network.seed}")
    return zlib.crc32(f"{_own_seed(network, seed)} {name}".encode()) & 0x7FFFFFFF


def _seed_of_crops(network: Network, seed: int) -> int:
    """The same for all networks of one seed that train on one data set."""
    return zlib.crc32(f"{_own_seed(network, seed)} crops of {network.data}".encode()) & 0x7FFFFFFF


def _own_seed(network: Network, seed: int) -> int:
    return seed if network.seed is None else network.seed


def _base_file(network: Network, settings: RunSettings, name: str) -> Path:
    """The prototxt to start from: the family's own where there is one, else the base network's."""
    own = settings.prototxt / network.family / name
    return own if own.exists() else settings.prototxt / "base" / name


def _text(message: Any) -> str:
    return text_format.MessageToString(message)


def main() -> None:
    """Write the 170 folders."""
    parser = argparse.ArgumentParser(description="write the run folders of the paper's 170 networks")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder to write them into (default: runs)")
    out = parser.parse_args().out
    networks = paper_networks()
    for network in networks:
        write_run_folder(network, RunSettings(), out)
    print(f"{len(networks)} run folders in {out}")


if __name__ == "__main__":
    main()
