"""The drawn images: the same in every run."""

import numpy as np
import pytest

from caffe_compat.errors import DataError
from reproduce.datasets import glyphs


def test_glyphs_are_the_same_in_every_run_and_differ_among_themselves() -> None:
    labels = np.arange(124) % 62
    first, second = glyphs.draw(labels, 1), glyphs.draw(labels, 1)
    assert np.array_equal(first, second)
    assert first.shape == (124, 3, 32, 32)
    assert not np.array_equal(first[:62], first[62:])
    assert not np.array_equal(first, glyphs.draw(labels, 2))
    assert min(image.std() for image in first) > 5


def test_all_fonts_have_all_glyphs() -> None:
    for row in glyphs.glyph_masks():
        assert len({mask.tobytes() for mask in row}) == len(glyphs.CLASSES)


def test_classes_and_their_natural_half() -> None:
    images = glyphs.load({"train": 1, "valid": 2})
    assert (len(images.classes), images.size) == (62, glyphs.DATA_SET.size_px)
    assert (images.classes[0], images.classes[10], images.classes[36]) == ("048", "065", "097")  # 0, A, a
    assert images.natural == tuple(range(36))
    assert [len(images.labels(part)) for part in ("train", "valid")] == [62, 124]


def test_a_path_is_refused() -> None:
    with pytest.raises(DataError, match=r"--data glyphs:fonts: the glyphs are drawn, they have no path"):
        glyphs.DATA_SET.load("fonts", download=False)
