"""Colours that stand out on light and on dark ground."""

import pytest

from reproduce.colours import DARK, LIGHT, contrast, on_dark
from reproduce.figures import GRAY, HALVES, NAVY
from reproduce.report import ACCURACY, LOSS
from reproduce.treatments import TREATMENTS


def test_contrast_is_wcags() -> None:
    assert contrast("#ffffff", "#000000") == 21
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # WCAG's own borderline gray
    assert contrast("#ffffff", "#ff0000") == pytest.approx(4.0, abs=0.005)


def test_lines_and_signs_stand_out_on_both_grounds() -> None:
    """By 3 or more, as WCAG 2.2 asks of graphics (1.4.11)."""
    edges = [
        treatment.mark.edge for treatment in TREATMENTS.values() if treatment.mark and treatment.mark.edge[0] == "#"
    ]
    for colour in {*edges, *(half[2] for half in HALVES), GRAY, NAVY, LOSS, ACCURACY}:
        assert contrast(colour, LIGHT) >= 3
        assert contrast(on_dark(colour), DARK) >= 4.5


def test_what_stands_out_stays_and_white_and_black_change_places() -> None:
    assert on_dark("#9cc3ee") == "#9cc3ee"
    assert on_dark(LIGHT) == DARK
    assert contrast(on_dark("#000000"), DARK) > 12
