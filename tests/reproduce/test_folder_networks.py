"""A folder says which network it is; what is damaged is one line."""

import json
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.folder_networks import named_networks, networks_in, read_network, write_network
from reproduce.network import Network
from reproduce.plan import paper_networks
from reproduce.treatments import transfer


def put(network: Network, out: Path) -> Path:
    folder = out / network.name
    folder.mkdir()
    write_network(network, folder)
    (folder / "solver.prototxt").touch()
    return folder


def test_networks_come_back_in_the_plans_order(tmp_path: Path) -> None:
    networks = [transfer("1", "A", "B", 2).with_seed(3), transfer("0", "A", "B", 2), transfer("0", "A", "A", 2)]
    for network in networks:
        put(network, tmp_path)
    (tmp_path / "half0A").mkdir()
    (tmp_path / "half0A" / "solver.prototxt").touch()  # of before networks were noted
    (tmp_path / "half0B").mkdir()  # not whole
    (tmp_path / "mine").mkdir()
    found = networks_in(tmp_path)
    assert [network.name for network in found] == ["half0A", networks[2].name, networks[1].name, networks[0].name]
    assert found[1:] == [networks[2], networks[1], networks[0]]


def test_all_networks_are_known_by_name() -> None:
    assert all(named_networks()[network.name] == network for network in paper_networks())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": "4"}, "n is '4'"),
        ({"n": True}, "n is 'True'"),
        ({"seed": 1e9}, "seed is '1000000000.0'"),
        ({"n": 1 << 40}, "n is '1099511627776'"),
        ({"name": "half0A"}, "is of the network 'half0A'"),
        ({"colour": "red"}, "is not what a run notes"),
    ],
)
def test_a_changed_note_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = put(transfer("0", "A", "B", 4), tmp_path)
    noted = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps({**noted, **change}))
    with pytest.raises(DataError, match=rf"network\.json: {message}.*; remove the folder"):
        read_network(folder)


def test_a_note_of_before_layers_were_kept_above_the_cut(tmp_path: Path) -> None:
    network = transfer("0", "A", "B", 4)
    folder = put(network, tmp_path)
    noted = json.loads((folder / "network.json").read_text())
    del noted["tuned"]
    (folder / "network.json").write_text(json.dumps(noted))
    assert read_network(folder) == network


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"/nowhere: no such folder; expected one that run_paper\.py has written"):
        networks_in(Path("/nowhere"))
