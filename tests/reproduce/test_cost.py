"""Operations and bytes of a training run, counted by hand for CaffeNet."""

from pathlib import Path

import pytest

from reproduce.cost import cost_of
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.treatments import NETBASE, base_half, transfer

CONV1 = 55 * 55 * 96 * 3 * 11 * 11
PRODUCTS = (
    *(CONV1, 27 * 27 * 256 * 48 * 25, 13 * 13 * 384 * 256 * 9, 13 * 13 * 384 * 192 * 9, 13 * 13 * 256 * 192 * 9),
    *(6 * 6 * 256 * 4096, 4096 * 4096, 4096 * 1000),
)
IMAGES = 450000 * 256
#: weights and biases of CaffeNet
PARAMETERS = 60_965_224


def test_base_pays_three_passes_but_for_the_gradient_of_the_images(tmp_path: Path) -> None:
    expected = 2 * (3 * sum(PRODUCTS) - CONV1) * IMAGES
    for network in (base_half("0", "A"), NETBASE.network()):
        assert cost_of(write_run_folder(network, RunSettings(), tmp_path)).training == pytest.approx(expected)


def test_frozen_layers_pay_one_pass(tmp_path: Path) -> None:
    expected = 2 * (sum(PRODUCTS[:7]) + 2 * PRODUCTS[7]) * IMAGES
    cost = cost_of(write_run_folder(transfer("0", "A", "B", 7), RunSettings(), tmp_path))
    assert cost.training == pytest.approx(expected)
    assert cost.step_flops * 450000 == pytest.approx(expected)


def test_tests_pay_one_pass_each(tmp_path: Path) -> None:
    """At the beginning and every 1,000 iterations, 500 batches of 50."""
    settings = RunSettings(test_images=(("half0A", 25000),), same_numbers=True)
    cost = cost_of(write_run_folder(base_half("0", "A"), settings, tmp_path))
    assert cost.test_batches == 451 * 500
    assert cost.tests == pytest.approx(2 * sum(PRODUCTS) * 451 * 25000)
    assert cost.all == cost.training + cost.tests


def test_snapshots_hold_weights_and_history(tmp_path: Path) -> None:
    cost = cost_of(write_run_folder(base_half("0", "A"), RunSettings(), tmp_path))
    assert cost.snapshot_bytes == 2 * 4 * PARAMETERS
    assert cost.snapshots == 45


def test_counts_of_a_miniature(tmp_path: Path) -> None:
    settings = RunSettings(PROTOTXT / "miniature" / "glyphs", scale=0.1, size_px=32)
    cost = cost_of(write_run_folder(base_half("0", "A"), settings, tmp_path), 3, 32)
    assert (cost.iterations, cost.test_batches, cost.snapshots) == (70, (70 // 4 + 1) * 10, 5)
