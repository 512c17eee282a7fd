"""examples/scenes.py: boxes lie where the digits are, and crops show them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.examples.run_example import ROOT

PROGRAM = """
import sys
import numpy as np
from scenes import crops, overlap, samples, scene
image, boxes, labels = scene(np.random.default_rng(5))
again, _, _ = scene(np.random.default_rng(5))
gradient = np.dstack([np.tile(np.arange(128, dtype=np.uint8), (96, 1))] * 3)
square = np.array([[10.0, 20.0, 32.0], [40.0, 50.0, 64.0]])
pixels, classes = samples(np.random.default_rng(6), scenes=3)
np.savez(sys.argv[1], image=image, boxes=boxes, labels=labels, again=again, cut=crops(gradient, square),
         overlaps=overlap(np.array([0.0, 0, 2]), np.array([[0.0, 0, 2], [1, 0, 2], [0, 0, 1], [2, 0, 2]])),
         pixels=pixels, classes=classes)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    path = tmp_path_factory.mktemp("scenes") / "made.npz"
    environment = {"PYTHONPATH": f"{ROOT / 'examples'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=environment, check=True)
    return dict(np.load(Path(path)))


def test_digits_are_brighter_than_what_is_around_all_boxes(made: dict[str, np.ndarray]) -> None:
    assert made["image"].shape == (192, 256, 3)
    np.testing.assert_array_equal(made["image"], made["again"])
    outside = np.ones((192, 256), bool)
    for left, top, side in made["boxes"].astype(int):
        outside[top : top + side, left : left + side] = False
    ground = made["image"][outside].max()
    assert len(made["boxes"]) == len(made["labels"]) > 3
    for left, top, side in made["boxes"].astype(int):
        middle = made["image"][top : top + side, left : left + side]
        assert middle.max() > ground
        assert (middle.max(axis=2) > ground).mean() > 0.03


def test_crops_and_overlaps(made: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(made["cut"][0, 0, 0], np.arange(10, 42))  # a box of 32 pixels: the pixels themselves
    np.testing.assert_allclose(made["cut"][1, 2, 5], np.arange(40, 104, 2) + 0.5, atol=0.5)  # of 64: means of two
    np.testing.assert_allclose(made["overlaps"], [1, 1 / 3, 1 / 4, 0])


def test_samples_have_digits_and_none(made: dict[str, np.ndarray]) -> None:
    assert made["pixels"].shape == (len(made["classes"]), 3, 32, 32)
    none = (made["classes"] == 10).mean()
    assert 0.4 < none < 0.9
    assert made["classes"].min() >= 0
