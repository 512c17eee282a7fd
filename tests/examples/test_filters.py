"""examples/filters.py: pictures of filters and activations, and a gradient that lies on the digit."""

from pathlib import Path

import cv2
import pytest

from tests.examples.run_example import number, run_example

TILES_PX = {"conv1_filters": (4 * 5 + 3, 4 * 5 + 3), "conv1_features": (4 * 28 + 3,) * 2}


@pytest.mark.slow
def test_pictures_and_gradient(tmp_path: Path) -> None:
    said = run_example("filters", tmp_path)
    assert "16 filters of 'conv1', 5 x 5 each" in said
    assert "32 features of 'conv2', 10 x 10 each" in said
    assert number(r"a 4, found 4 with probability (\S+)", said) > 0.5
    assert "fc1: weights (64, 800), blob (1, 64)" in said
    on_ink, beside = number(r"on the ink (\d\.\d+)", said), number(r"beside it (\d\.\d+)", said)
    assert on_ink > 1.5 * beside > 0
    for name, (height, width) in TILES_PX.items():
        picture = cv2.imread(str(tmp_path / f"{name}.png"))
        assert picture is not None
        factor = 500 // height  # small tiles are enlarged
        assert picture.shape[:2] == (height * factor, width * factor)
        assert picture.std() > 10
