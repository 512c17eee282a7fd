"""The glyphs with many images a class: the same test images, other training images, a net of their own."""

import numpy as np
import pytest

from caffe_compat.errors import DataError
from reproduce.dataset import data_sets, find_data_set
from reproduce.datasets import glyphs, glyphs_large


def test_two_hundred_images_a_class_and_the_same_tests() -> None:
    assert glyphs_large.DATA_SET.per_class == {"train": 200, "valid": glyphs.DATA_SET.per_class["valid"]}


def test_test_images_do_not_depend_on_the_training_images() -> None:
    """Where as many test images are drawn, they are the same ones."""
    few, many = (glyphs.load({"train": count, "valid": 1}) for count in (1, 3))
    assert np.array_equal(few.pixels["valid"], many.pixels["valid"])
    assert np.bincount(many.labels("train")).tolist() == [3] * 62


def test_it_is_a_choice_of_its_own() -> None:
    assert find_data_set("glyphs-large") == (glyphs_large.DATA_SET, "")
    assert data_sets()["glyphs-large"].prototxt == "miniature/glyphs-large"
    with pytest.raises(DataError, match="--data glyphs-large:x: the glyphs are drawn, they have no path"):
        glyphs_large.DATA_SET.load("x", download=False)
