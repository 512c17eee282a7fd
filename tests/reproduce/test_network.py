"""What a network says of itself."""

import pytest

from reproduce.network import Network
from reproduce.treatments import RANDOM, REDUCED, base_half, transfer


def test_a_reduced_set_is_tested_on_all_classes() -> None:
    network = REDUCED.network(25)
    assert (network.data, network.test_data, network.images_per_class) == ("reduced-0025", "whole", 25)
    assert base_half("1", "B").test_data == "half1B"


def test_a_transfer_network_subtracts_the_mean_of_its_base_networks_half() -> None:
    assert transfer("natman", "A", "B", 2).mean_data == "halfnatmanA"
    assert base_half("1", "B").mean_data == "half1B"
    assert RANDOM.network(2).mean_data == "whole"
    assert REDUCED.network(25).mean_data == "reduced-0025"


def test_networks_are_compared_by_what_they_are() -> None:
    assert transfer("0", "A", "B", 3) == transfer("0", "A", "B", 3)
    assert transfer("0", "A", "B", 3) != transfer("0", "A", "B", 3, fine_tuned=True)


def test_fields_have_names() -> None:
    with pytest.raises(TypeError):
        Network("half0A", "base", "base", "half0A")  # type: ignore[call-arg]
