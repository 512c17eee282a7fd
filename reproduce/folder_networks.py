"""Which networks a folder holds: each of their folders says so in its ``network.json``."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError, reading
from reproduce.network import Network
from reproduce.plan import paper_networks, split_networks, turn
from reproduce.splits import SPLITS
from reproduce.treatments import TREATMENTS

NETWORK = "network.json"
#: of a number in the file, as of a count in a prototxt
MOST = 2**31 - 1
#: of each field but the names
_TYPES: dict[str, tuple[type, ...]] = {
    "n": (int,),
    "tuned": (int,),
    "images_per_class": (int,),
    "seed": (int, type(None)),
    "frozen": (bool,),
}


def write_network(network: Network, folder: Path) -> None:
    """Note in ``folder`` which network is trained there."""
    write_text(folder / NETWORK, json.dumps(asdict(network), indent=1) + "\n")


def networks_in(out: Path) -> list[Network]:
    """The networks whose folders lie in ``out``, in the plan's order.

    A folder without ``network.json``, of before there was one, is known by its name.  DataError for a damaged file.
    """
    found = list[Network]()
    for folder in sorted(path for path in _folders(out) if (path / "solver.prototxt").exists()):
        if (folder / NETWORK).exists():
            found.append(read_network(folder))
        elif folder.name in named_networks():
            found.append(named_networks()[folder.name])
    return sorted(found, key=turn)


def read_network(folder: Path) -> Network:
    """The network of a folder; DataError when its ``network.json`` is damaged or another network's."""
    file = folder / NETWORK
    cure = f"remove the folder {folder} to train this network again"
    with reading(file, f"what a run noted of a network; {cure}"):
        noted = json.loads(file.read_text())
    if isinstance(noted, dict):
        noted = {"tuned": 0, **noted}  # noted before there were such networks
    if not isinstance(noted, dict) or set(noted) != {field.name for field in fields(Network)}:
        raise DataError(f"{file}: is not what a run notes of a network; {cure}")
    for name, value in noted.items():
        if type(value) not in _TYPES.get(name, (str,)) or (type(value) is int and not -MOST <= value <= MOST):
            raise DataError(f"{file}: {name} is {str(value)[:50]!r}; {cure}")
    if noted["name"] != folder.name:
        raise DataError(f"{file}: is of the network {noted['name'][:50]!r}; {cure}")
    return Network(**noted)


@cache
def named_networks() -> dict[str, Network]:
    """Every network that the experiment has by itself, by its name."""
    networks = paper_networks()
    networks += [network for split in SPLITS for network in split_networks(split, TREATMENTS)]
    return {network.name: network for network in networks}


def _folders(out: Path) -> Iterable[Path]:
    if not out.is_dir():
        raise DataError(f"{out}: no such folder; expected one that run_paper.py has written")
    return (path for path in out.iterdir() if path.is_dir())
