"""Where each network of a folder is."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from caffe_compat.proto import caffe_pb2, read_message
from reproduce.folder_networks import networks_in
from reproduce.lease import holder
from reproduce.network import Network
from reproduce.progress import position
from reproduce.publish import reason_of
from reproduce.results import DONE, FAILED, read_result
from reproduce.runners import is_done

TRAINING, FAILURE, READY, WAITING = "training", "failed", "ready", "waiting"
_PLAIN: Any = {"highlight": False, "markup": False}


def show_status(out: Path, console: Console) -> None:
    """Print a line for each network in ``out``, and how many are where.  Raises DataError for a damaged file."""
    networks = networks_in(out)
    states = {network.name: state_of(network, out) for network in networks}
    for network in networks:
        state = states[network.name]
        console.print(f"{network.name:26} {state:9} {_details(network, out, state)}".rstrip(), **_PLAIN)
    counts = Counter(states.values())
    parts = [f"{counts[state]} {state}" for state in (DONE, TRAINING, FAILURE, READY, WAITING) if counts[state]]
    console.print(f"{out}: {len(networks)} networks" + (f": {', '.join(parts)}" if parts else ""), **_PLAIN)


def state_of(network: Network, out: Path) -> str:
    """One of the words above."""
    if is_done(network, out):
        return DONE
    if holder(out / network.name):
        return TRAINING
    if (out / network.name / FAILED).exists():
        return FAILURE
    return READY if not network.base_network or (out / network.base_network / DONE).exists() else WAITING


def _details(network: Network, out: Path, state: str) -> str:
    if state == DONE:
        return f"accuracy {read_result(network, out).accuracy:.3f}"
    if state in (FAILURE, WAITING):
        return reason_of(network, out).removeprefix("failed: ")
    solver = read_message(out / network.name / "solver.prototxt", caffe_pb2.SolverParameter())
    where = position(out, network.name)
    return f"{where}, of {solver.max_iter}" if state == TRAINING or where != "starting" else f"0 of {solver.max_iter}"
