"""The stream that the whole process draws from, and blocks that have one of their own."""

import contextlib
from collections.abc import Iterator

import pytest
import torch

from caffe_compat import random
from caffe_compat.random import CaffeGenerator


@pytest.fixture
def unseeded() -> Iterator[None]:
    with random.scope():
        yield


@pytest.mark.usefixtures("unseeded")
def test_set_seed_starts_the_global_stream_anew() -> None:
    assert not random.is_seeded()
    random.set_seed(12)
    assert random.is_seeded()
    assert random.generator() is random.generator()
    assert random.generator().raw() == CaffeGenerator(12).raw()


@pytest.mark.usefixtures("unseeded")
def test_without_a_seed_torchs_generator_decides() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = random.generator().raw()
        with random.scope():
            torch.manual_seed(1)
            assert random.generator().raw() == first
    assert not random.is_seeded()


def test_a_scope_has_a_stream_of_its_own_and_gives_the_other_back() -> None:
    with random.scope(seed=3):
        stream = random.generator()
        stream.raw()
        with random.scope(seed=4):
            assert random.is_seeded()
            assert random.generator().raw() == CaffeGenerator(4).raw()
        with contextlib.suppress(KeyError), random.scope():
            assert not random.is_seeded()
            random.set_seed(5)
            raise KeyError
        assert random.is_seeded()
        assert random.generator() is stream
        other = CaffeGenerator(3)
        assert [other.raw() for _ in range(2)][1] == stream.raw()


def test_a_scope_leaves_an_unseeded_stream_unseeded() -> None:
    with random.scope():
        stream = random.generator()
        with random.scope(seed=1):
            pass
        assert not random.is_seeded()
        assert random.generator() is stream
