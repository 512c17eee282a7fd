"""Operations of a training run, counted by hand for CaffeNet."""

from pathlib import Path

import pytest

from reproduce.cost import training_flops
from reproduce.run_folder import RunSettings, write_run_folder
from reproduce.treatments import NETBASE, base_half, transfer

CONV1 = 55 * 55 * 96 * 3 * 11 * 11
PRODUCTS = (
    *(CONV1, 27 * 27 * 256 * 48 * 25, 13 * 13 * 384 * 256 * 9, 13 * 13 * 384 * 192 * 9, 13 * 13 * 256 * 192 * 9),
    *(6 * 6 * 256 * 4096, 4096 * 4096, 4096 * 1000),
)
IMAGES = 450000 * 256


def test_base_pays_three_passes_but_for_the_gradient_of_the_images(tmp_path: Path) -> None:
    expected = 2 * (3 * sum(PRODUCTS) - CONV1) * IMAGES
    for network in (base_half("0", "A"), NETBASE.network()):
        assert training_flops(write_run_folder(network, RunSettings(), tmp_path)) == pytest.approx(expected)


def test_frozen_layers_pay_one_pass(tmp_path: Path) -> None:
    expected = 2 * (sum(PRODUCTS[:7]) + 2 * PRODUCTS[7]) * IMAGES
    folder = write_run_folder(transfer("0", "A", "B", 7), RunSettings(), tmp_path)
    assert training_flops(folder) == pytest.approx(expected)
