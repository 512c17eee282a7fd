"""The random stream's twin beside the extension: the same numbers and the same state, call after call."""

from typing import Any

import numpy as np
import pytest

from caffe_compat import extension
from caffe_compat.random import CaffeGenerator
from caffe_compat.random.plain_engine import PlainCaffeRandom
from caffe_compat.random.ziggurat import normal_tables

needs_extension = pytest.mark.skipif(extension.load() is None, reason="compares with the extension")

#: (the extension's, the twin)
Engines = tuple[Any, PlainCaffeRandom]


@pytest.fixture
def engines() -> Engines:
    return extension.require("this test").CaffeRandom(5), PlainCaffeRandom(5)


@needs_extension
@pytest.mark.parametrize("seed", [0, 1, 5489, 2**32 - 1])
def test_the_state_is_the_extensions(seed: int) -> None:
    assert PlainCaffeRandom(seed).state() == extension.require("this test").CaffeRandom(seed).state()


@needs_extension
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 1000, 300_000])
def test_the_numbers_are_the_extensions(engines: Engines, real: type, count: int) -> None:
    theirs, ours = engines
    calls = [("uniform", (low, high)) for low, high in ((-0.3, 0.7), (2.5, 2.5), (-3e38, 3e38))] + [
        ("gaussian", (0.5, 3))
    ]
    for name, arguments in calls:
        results: list[np.ndarray] = [np.empty(count, real) for _ in engines]
        for engine, result in zip(engines, results, strict=True):
            getattr(engine, f"fill_{name}")(result, *arguments)
        assert np.array_equal(results[0], results[1]), name
        assert theirs.state() == ours.state(), name


@needs_extension
def test_rare_numbers_are_the_extensions_too(engines: Engines) -> None:
    """Among so many there are numbers of the tail, |x| > 3.44, and of the tail's tail."""
    results = [np.empty(3_000_000, np.float32) for _ in engines]
    for engine, result in zip(engines, results, strict=True):
        engine.fill_gaussian(result, 0, 1)
    assert np.array_equal(results[0], results[1])
    assert (np.abs(results[1]) > normal_tables()[0][1]).sum() > 1000
    assert np.abs(results[1]).max() > 5


@needs_extension
@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_coins_and_shuffles_are_the_extensions(engines: Engines, probability: float) -> None:
    for name in ("fill_bernoulli_float", "fill_bernoulli_double"):
        results = [np.full((30, 100), 7, np.int32) for _ in engines]
        for engine, result in zip(engines, results, strict=True):
            getattr(engine, name)(result, probability)
        assert np.array_equal(results[0], results[1])
    orders = [np.arange(5000) for _ in engines]
    for engine, order in zip(engines, orders, strict=True):
        engine.shuffle(order)
    assert np.array_equal(orders[0], orders[1])
    assert engines[0].state() == engines[1].state()


@needs_extension
def test_each_goes_on_from_the_others_state(engines: Engines) -> None:
    theirs, ours = engines
    first = [ours.raw() for _ in range(700)]
    assert theirs.restore(ours.state())
    assert ours.raw() == theirs.raw()
    assert first[:2] == [PlainCaffeRandom(5).raw(), first[1]]
    theirs.raw()
    assert ours.restore(theirs.state())
    assert ours.raw() == theirs.raw()


def test_a_million_gaussians_have_the_moments_of_one() -> None:
    out = np.empty(1_000_000, np.float32)
    PlainCaffeRandom(1).fill_gaussian(out, 0, 1)
    assert out.mean() == pytest.approx(0, abs=0.005)
    assert out.std() == pytest.approx(1, abs=0.005)


def test_numbers_by_hand() -> None:
    """Without the extension: MT19937's first draws, and what a uniform and a coin make of them."""
    draws = [PlainCaffeRandom(5489).raw(), 581869302]
    assert draws[0] == 3499211612
    out = np.empty(2)
    PlainCaffeRandom(5489).fill_uniform(out, 0, 1)
    assert out.tolist() == pytest.approx([draw / 2**32 for draw in draws], rel=1e-15)
    coins = np.empty(2, np.int32)
    PlainCaffeRandom(5489).fill_bernoulli_double(coins, 0.5)
    assert coins.tolist() == [0, 1]
    assert CaffeGenerator(5489).raw() == draws[0]
