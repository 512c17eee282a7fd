"""Linear CKA against the definition of Kornblith et al., 2019, written out."""

import math

import numpy as np
import pytest
import torch

from reproduce.diagnostics import cka
from reproduce.diagnostics.cka import linear_cka

TOLERANCE = 1e-10  # float64 sums in another order


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """|Y'X|^2 / (|X'X| |Y'Y|) of centred (N, p) and (N, q)."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.sum((y.T @ x) ** 2) / (np.sqrt(np.sum((x.T @ x) ** 2)) * np.sqrt(np.sum((y.T @ y) ** 2))))


@pytest.mark.parametrize("columns", [4, 1 << 14])
def test_it_is_the_formula(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(cka, "COLUMNS", columns)
    rng = np.random.default_rng(0)
    x = rng.normal(3, 1, (20, 7))
    y = np.concatenate([np.tanh(x[:, :5]), rng.normal(0, 1, (20, 7))], axis=1)  # 12 features, partly of x
    found = linear_cka(torch.from_numpy(x), torch.from_numpy(y.reshape(20, 3, 2, 2)))
    assert 0.2 < found < 0.9
    assert found == pytest.approx(plain(x, y), abs=TOLERANCE)


def test_turned_stretched_and_moved_features_are_the_same() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(15, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert linear_cka(torch.from_numpy(x), torch.from_numpy(-3 * x @ turn + 7)) == pytest.approx(1, abs=TOLERANCE)


def test_a_layer_that_says_nothing_has_no_number() -> None:
    x = torch.arange(12.0).view(4, 3)
    assert math.isnan(linear_cka(x, torch.ones(4, 2)))
