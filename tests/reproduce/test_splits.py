"""Halves are drawn by the paper's rule."""

import numpy as np
import pytest

from caffe_compat.errors import DataError
from reproduce.splits import half_classes, natural_half_classes, random_half_classes


@pytest.mark.parametrize("classes", [10, 62, 1000])
@pytest.mark.parametrize("split", [0, 1, 2, 3])
def test_random_halves_follow_the_papers_rule(split: int, classes: int) -> None:
    halves = half_classes(str(split), classes)
    drawn = np.random.RandomState([split]).choice(np.arange(classes), classes // 2, replace=False)
    assert halves["A"].tolist() == sorted(drawn.tolist())
    assert sorted([*halves["A"], *halves["B"]]) == list(range(classes))


def test_the_seed_is_a_list_not_a_number() -> None:
    wrong = np.random.RandomState(0).choice(np.arange(1000), 500, replace=False)
    assert half_classes("0", 1000)["A"].tolist() != sorted(wrong.tolist())


def test_natural_half_of_imagenet_has_449_classes() -> None:
    halves = half_classes("natman", 1000)
    assert (len(halves["A"]), len(halves["B"])) == (449, 551)


def test_natural_half_of_other_data_is_given() -> None:
    assert half_classes("natman", 6, (4, 0, 2))["A"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("split", "classes", "message"),
    [("4", 1000, "no such split"), ("0", 3, "3 classes; expected at least 4"), ("natman", 10, "natural.txt")],
)
def test_refusals(split: str, classes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        half_classes(split, classes)


@pytest.mark.parametrize("split", range(4))
def test_random_halves_are_the_paper_s(split: int) -> None:
    """The seed is the list [s]; the integer s would give other halves."""
    half_a, half_b = random_half_classes(split)
    expected = np.random.RandomState([split]).permutation(1000)[:500]  # what choice without replacement takes
    assert half_a.tolist() == sorted(expected.tolist())
    assert half_a.tolist() != sorted(np.random.RandomState(split).permutation(1000)[:500].tolist())
    assert sorted([*half_a, *half_b]) == list(range(1000))
    assert [len(half) for half in random_half_classes(split, 31)] == [15, 16]


def test_natural_half() -> None:
    natural, man_made = natural_half_classes()
    assert (len(natural), len(man_made)) == (449, 551)
    assert [natural[0], natural[397], natural[398], natural[-1]] == [0, 397, 936, 998]
