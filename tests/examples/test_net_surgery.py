"""examples/net_surgery.py: the convolutional net says over a large image what the first net says of each tile."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.proto import read_caffemodel
from tests.examples.run_example import number, run_example

ROUNDING = 1e-5  # of probabilities, by sums in another order


def blobs(path: Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: [blob for blob in layer.blobs if blob is not None] for layer in read_caffemodel(path)}


@pytest.mark.slow
def test_same_numbers_over_a_large_image(tmp_path: Path) -> None:
    said = run_example("net_surgery", tmp_path)
    assert "image of 96 x 192: a map of 17 x 41 places" in said
    assert number(r"difference of InnerProduct and convolution: (\S+)", said) < ROUNDING
    assert number(r"digits read right in the map: (\d+) of 18", said) >= 14
    before, after = blobs(tmp_path / "digits.caffemodel"), blobs(tmp_path / "convolutional.caffemodel")
    assert after["fc1_conv"][0].shape == (64, 32, 5, 5)
    assert after["score_conv"][0].shape == (10, 64, 1, 1)
    for name in ("fc1", "score"):
        for old, new in zip(before[name], after[f"{name}_conv"], strict=True):
            np.testing.assert_array_equal(old.ravel(), new.ravel())
