import numpy as np

from caffe_compat.layers.shared.example import Dice, Example


def dice(number: int = 0) -> Dice:
    return Dice("Convolution", number)


def test_depend_on_type_and_number_only() -> None:
    draws = [Dice(name, number).normal(3).tolist() for name in ("ReLU", "LRN") for number in (0, 1)]
    assert draws == [Dice(name, number).normal(3).tolist() for name in ("ReLU", "LRN") for number in (0, 1)]
    assert len({tuple(values) for values in draws}) == 4


def test_ranges() -> None:
    for number in range(100):
        assert dice(number).integer(-1, 2) in (-1, 0, 1, 2)
        assert dice(number).pick("a", "b") in ("a", "b")
        assert dice(number).switch() in ("true", "false")
        assert -3 <= dice(number).axis(3) <= 2
        value = dice(number).number(0.5, 2)
        assert 0.5 <= value <= 2
        assert value == round(value, 3)
        shape = dice(number).shape(2, 4)
        assert 2 <= len(shape) <= 4
        assert all(1 <= size <= 5 for size in shape)
        n, c, h, w = dice(number).image()
        assert 1 <= n <= 3
        assert 1 <= c <= 6
        assert 5 <= min(h, w) <= max(h, w) <= 9
        assert dice(number).image(17)[1] == 17


def test_both_ends_come() -> None:
    assert {dice(number).integer(-1, 2) for number in range(100)} == {-1, 0, 1, 2}
    assert {dice(number).pick("a", "b") for number in range(20)} == {"a", "b"}
    assert {dice(number).axis(2) for number in range(100)} == {-2, -1, 0, 1}


def test_arrays() -> None:
    normal = dice().normal(40, 50)
    assert normal.shape == (40, 50)
    assert normal.dtype == np.float32
    assert abs(normal.mean()) < 0.1  # 4.5 standard deviations of the mean of 2000
    assert dice().positive(100).min() >= 0.1
    probabilities = dice().probabilities(4, 3, 2)
    np.testing.assert_allclose(probabilities.sum(1), np.ones((4, 2)), rtol=1e-6)
    assert probabilities.min() > 0
    indices = dice().indices(3, 200)
    assert indices.dtype == np.float32
    assert sorted(set(indices.tolist())) == [0, 1, 2]


def test_example_defaults() -> None:
    example = Example("", [])
    assert example.tops == 1
    assert not example.positive_blobs
