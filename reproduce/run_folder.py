"""The folder of one network: train, val and solver prototxts derived from those of a base network.

    python reproduce/run_folder.py --out runs     writes the folders of the paper's 170 networks

The files are in Caffe's form of 2013, as the authors' are, and all paths in them are relative to the
folder.  ``caffe1_*.prototxt`` say the same in today's form, for Caffe 1.0 itself: a net of 2013
cannot say that its database is an LMDB.
"""

if __name__ == "__main__" and not __package__:
    import from_checkout  # noqa: F401

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, read_message, read_net
from reproduce.network import Network
from reproduce.plan import paper_networks

#: a link in a checkout, where the folder stands at the top; in an installed package a copy
PROTOTXT = (Path(__file__).parent / "prototxt").resolve()
#: the eight layers that learn, from the input
LEARNED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
SNAPSHOT_PREFIX = "caffe_train"


@dataclass(frozen=True)
class RunSettings:
    """What is the same for all networks of a run."""

    prototxt: Path = PROTOTXT / "paper"  # the folder with base/, and netbase/ and reduced/ where they differ
    outputs: int | None = None  # outputs of fc8; None: as in the prototxt
    scale: float = 1.0  # of max_iter; the schedule, tests, displays and snapshots shrink with it
    seed: int | None = None  # each network's random_seed follows from it and from the name
    test_images: tuple[tuple[str, int], ...] = ()  # (data set, test images): one test passes over them once
    solver_mode: str = "GPU"


def write_run_folder(network: Network, settings: RunSettings, out: Path) -> Path:
    """Write the prototxts of ``network`` into ``out/<name>`` and return that folder.

    The solver comes last: where there is one, the folder is whole and stays as it is.
    Raises ProtoError for a wrong base prototxt, OSError when the folder cannot be written.
    """
    folder = out / network.name
    if (folder / "solver.prototxt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    train, val = _net(network, settings, "train"), _net(network, settings, "val")
    solver = _solver(network, settings, val)
    for name, net in (("train", train), ("val", val)):
        write_text(folder / f"{name}.prototxt", _text(net))
        upgraded = read_net(folder / f"{name}.prototxt")
        upgraded.layer[0].data_param.backend = caffe_pb2.DataParameter.LMDB
        write_text(folder / f"caffe1_{name}.prototxt", _text(upgraded))
    text = _text(solver)
    solver.train_net, solver.test_net[0] = "caffe1_train.prototxt", "caffe1_val.prototxt"
    write_text(folder / "caffe1_solver.prototxt", _text(solver))
    write_text(folder / "solver.prototxt", text)
    return folder


def final_snapshot(max_iter: int) -> str:
    """File name of the weights that a finished network leaves in its folder."""
    return f"{SNAPSHOT_PREFIX}_iter_{max_iter}.caffemodel"


def _net(network: Network, settings: RunSettings, phase: str) -> Any:
    """The V0 net of one phase: data, fc8, and the layers kept, frozen or new."""
    file = _base_file(network, settings, f"{phase}.prototxt")
    net = read_message(file, caffe_pb2.NetParameter())
    if not net.layers or not all(connection.HasField("layer") for connection in net.layers):
        raise ProtoError(
            f"{file}: expected a net in the form of 2013 (`layers {{ layer {{ ... }} }}`), data layer first"
        )
    data = network.data if phase == "train" else network.test_data
    source = net.layers[0].layer
    source.source = f"../data/{data}_{'train' if phase == 'train' else 'valid'}_lmdb"
    source.meanfile = f"../data/{network.mean_data}_mean.binaryproto"
    new = LEARNED[network.n :] if network.base_network else ()
    for connection in net.layers:
        layer = connection.layer
        if layer.name == "fc8" and settings.outputs is not None:
            layer.num_output = settings.outputs
        if phase == "train" and network.frozen and layer.name in LEARNED[: network.n]:
            layer.blobs_lr[:] = [0, 0]
            layer.weight_decay[:] = [0, 0]
        layer.name = _renamed(layer.name, new)
        connection.bottom[:] = [_renamed(name, new) for name in connection.bottom]
        connection.top[:] = [_renamed(name, new) for name in connection.top]
    return net


def _renamed(name: str, new: tuple[str, ...]) -> str:
    return f"{name}-new" if name in new else name


def _solver(network: Network, settings: RunSettings, val: Any) -> Any:
    solver_file = _base_file(network, settings, "solver.prototxt")
    solver = read_message(solver_file, caffe_pb2.SolverParameter())
    solver.MergeFrom(caffe_pb2.SolverParameter(solver_mode=settings.solver_mode))
    for field in ("max_iter", "stepsize", "test_interval", "snapshot", "display"):
        count = max(1, round(getattr(solver, field) * settings.scale))
        if count >= 1 << 31:
            raise ProtoError(f"{solver_file}: {field} would be {count} by --scale or --iters; expected below 2^31")
        setattr(solver, field, count)
    images = dict(settings.test_images).get(network.test_data)
    if images is not None:
        solver.test_iter[:] = [-(-images // val.layers[0].layer.batchsize)]
    if settings.seed is not None:
        solver.random_seed = zlib.crc32(f"{settings.seed} {network.name}".encode()) & 0x7FFFFFFF
    if network.base_network:
        solver.weights[:] = [f"../{network.base_network}/{final_snapshot(solver.max_iter)}"]
    return solver


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
