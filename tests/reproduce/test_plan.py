"""The plan has the authors' networks under the authors' names."""

from collections import Counter

import pytest

from caffe_compat.errors import DataError
from reproduce.network import DEPTHS
from reproduce.plan import paper_networks, planned_networks, split_networks, splits_of, turn
from reproduce.results import paper_results


def test_the_paper_has_170_networks_by_family() -> None:
    families = Counter(network.family for network in paper_networks())
    assert families == {"base": 10, "transfer": 98, "transfer-ft": 42, "nolearn": 7, "netbase": 1, "reduced": 12}


def test_names_and_columns_are_those_of_the_authors_table() -> None:
    networks = {network.name: network for network in paper_networks()}
    rows = paper_results()
    assert len(rows) == 170 - 22  # the authors did not publish the logs of 22 fine-tuned networks
    for row in rows:
        network = networks[row.network]
        target = "" if network.target == "whole" else network.target
        columns = (network.split, network.base, target, network.n, network.treatment)
        assert columns == (row.split, row.base, row.target, row.n, row.treatment)
        assert network.family == row.family


@pytest.mark.parametrize("split", ["0", "3", "natman"])
def test_a_split_is_58_networks_and_7_with_random_features(split: str) -> None:
    networks = split_networks(split)
    treatments = Counter(network.treatment for network in networks)
    assert treatments == {"base": 2, "BnB": 14, "AnB": 14, "BnB+": 14, "AnB+": 14, "random": 7}
    assert len({network.name for network in networks}) == 65


def test_each_network_comes_after_its_base() -> None:
    for networks in (split_networks("0"), paper_networks()):
        seen: set[str] = set()
        for network in networks:
            assert not network.base_network or network.base_network in seen
            seen.add(network.name)


def test_a_transfer_brings_the_base_it_needs() -> None:
    names = [network.name for network in split_networks("1", ["AnB"], [4])]
    assert names == ["half1A", "half1B", "transfer1A1B_1_4", "transfer1B1A_1_4"]


def test_only_selffer_cross_and_random_networks_are_frozen() -> None:
    for network in split_networks("0"):
        assert network.frozen == (network.treatment in ("BnB", "AnB", "random"))
    assert {network.n for network in split_networks("0", ["random"])} == set(DEPTHS)


def test_reference_and_reduced_networks_are_there_on_request() -> None:
    names = [network.name for network in split_networks("0", ["netbase", "reduced"])]
    assert names[:3] == ["netbase", "reduced-0001", "reduced-0002"]
    assert len(names) == 13


def test_networks_of_one_depth_stand_together() -> None:
    names = [network.name for network in split_networks("0", depths=[2, 5])]
    kinds = ("transfer0A0A", "transfer0B0B", "transfer0A0B", "transfer0B0A")
    tuned = ("transfer-ft0A0A", "transfer-ft0B0B", "transfer-ft0A0B", "transfer-ft0B0A")
    assert names == [
        *("half0A", "half0B"),
        *(f"{kind}_1_{n}" for n in (2, 5) for kind in kinds + tuned),
        *("nolearn_1_2", "nolearn_1_5"),
    ]


def test_the_papers_choice_is_its_170_networks() -> None:
    assert {n.name for n in planned_networks("paper")} == {n.name for n in paper_networks()}
    some = Counter(n.treatment for n in planned_networks("paper", ["AnB", "reduced"], [4]))
    assert some == {"base": 10 + 12, "AnB": 10}


def test_several_splits_share_the_random_features() -> None:
    networks = planned_networks("0,natman")
    assert len({n.name for n in networks}) == len(networks) == 2 * 58 + 7
    assert [n.split for n in networks] == ["0"] * 58 + ["natman"] * 58 + [""] * 7
    assert len(planned_networks("all")) == 5 * 58 + 7
    assert planned_networks("2") == split_networks("2")


def test_a_split_that_is_none() -> None:
    assert splits_of("all") == ("0", "1", "2", "3", "natman")
    for text, name in (("0,9", "9"), ("", ""), ("0,", ""), ("0,all", "all")):
        with pytest.raises(DataError, match=f"--split {name}: there is no such split; choose one of 0, 1, 2, 3, nat"):
            splits_of(text)


def test_each_seed_is_the_plan_once_more() -> None:
    networks = planned_networks("0", ["AnB", "random"], [2], more_seeds=(4, 5))
    once = ["half0A", "half0B", "transfer0A0B_1_2", "transfer0B0A_1_2", "nolearn_1_2"]
    more = [f"{name}-seed{seed}" for seed in (4, 5) for name in once]
    alone = ["nolearn_1_2-seed6", "nolearn_1_2-seed7", "nolearn_1_2-seed8"]  # two a seed, as there are two halves
    assert [n.name for n in networks] == once + more + alone
    assert (networks[7].base_network, networks[7].data, networks[7].seed) == ("half0A-seed4", "half0B", 4)
    assert networks[7].mean_data == "half0A"


def test_the_order_follows_from_each_network_alone() -> None:
    networks = planned_networks("paper")
    by_name = sorted(networks, key=lambda network: network.name)
    assert sorted(by_name, key=turn) == networks
