"""The stream against Boost 1.74's own numbers (tests/golden/random, made by make_boost.cpp)."""

import copy
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from caffe_compat import extension
from caffe_compat.random import CaffeGenerator, caffe_generator
from caffe_compat.random.plain_engine import PlainCaffeRandom

COUNT = 200_000  # as in make_boost.cpp
BOOST = dict(
    line.split() for line in (Path(__file__).parent.parent / "golden/random/boost_1_74.txt").read_text().splitlines()
)


def crc(values: np.ndarray) -> str:
    return f"{zlib.crc32(values.tobytes()):08x}"


@pytest.fixture(autouse=True, params=["extension", "twin"])
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test with the extension's engine and with its twin."""
    if request.param == "twin":
        monkeypatch.setattr(caffe_generator, "engine_type", lambda: PlainCaffeRandom)
    elif extension.load() is None:
        pytest.skip("no extension")


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_reals_are_boosts(real: str) -> None:
    kind = {"float32": "float", "float64": "double"}[real]
    assert crc(CaffeGenerator(1).uniform((COUNT,), -0.3, 0.7, real)) == BOOST[f"uniform_{kind}"]
    assert crc(CaffeGenerator(2).gaussian((COUNT,), 0.5, 0.01, real)) == BOOST[f"gaussian_{kind}"]
    assert crc(CaffeGenerator(3).bernoulli((COUNT,), 0.3, real)) == BOOST[f"bernoulli_{kind}"]


def test_raw_draws_are_boosts_and_numpys() -> None:
    generator = CaffeGenerator(5489)
    draws = np.array([generator.raw() for _ in range(COUNT)], np.uint32)
    assert crc(draws) == BOOST["raw"]
    assert np.array_equal(draws[:2000], np.random.RandomState(5489).randint(0, 2**32, 2000, np.uint32))


def test_shuffle_is_boosts() -> None:
    items = list(range(COUNT))
    CaffeGenerator(4).shuffle(items)
    assert crc(np.array(items, np.int64)) == BOOST["shuffle"]


@pytest.mark.parametrize("items", [[], ["one"]])
def test_shuffling_nothing_draws_nothing(items: list[str]) -> None:
    generator = CaffeGenerator(1)
    before = generator.get_state()
    generator.shuffle(items)
    assert generator.get_state() == before


def test_only_the_engine_has_state() -> None:
    parts, whole = CaffeGenerator(7), CaffeGenerator(7)
    joined = np.concatenate([parts.gaussian((3, 5)).ravel(), parts.gaussian((2,))])
    assert np.array_equal(joined, whole.gaussian((17,)))


def test_a_shape_is_filled_in_memory_order() -> None:
    assert np.array_equal(CaffeGenerator(8).uniform((3, 4)), CaffeGenerator(8).uniform((12,)).reshape(3, 4))
    assert CaffeGenerator(8).uniform(()).shape == ()


def test_ends_are_included() -> None:
    assert np.all(CaffeGenerator(0).uniform((9,), 2.5, 2.5) == 2.5)
    assert np.isfinite(CaffeGenerator(0).uniform((99,), -3e38, 3e38)).all()


def test_bernoulli_of_certain_outcomes() -> None:
    generator = CaffeGenerator(0)
    before = generator.get_state()
    assert not generator.bernoulli((9,), 0).any()
    assert generator.get_state() == before
    assert generator.bernoulli((9,), 1).all()


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**40 - 1])
def test_the_seed_counts_modulo_32_bits(seed: int) -> None:
    assert CaffeGenerator(seed).raw() == CaffeGenerator(0xFFFFFFFF).raw()


def test_state_returns_to_a_position() -> None:
    generator = CaffeGenerator(3)
    generator.uniform((1000,))
    state = generator.get_state()
    expected = generator.gaussian((700,))
    generator.set_state(state)
    assert np.array_equal(generator.gaussian((700,)), expected)


def test_copies_continue_apart() -> None:
    generator = CaffeGenerator(3)
    generator.raw()
    copies = [copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))]
    expected = generator.raw()
    assert [other.raw() for other in copies] == [expected, expected]


@pytest.mark.parametrize("state", [b"", b"\0" * 2499, b"\xff" * 2500])
def test_refuses_a_state_that_is_none(state: bytes) -> None:
    generator = CaffeGenerator(3)
    before = generator.get_state()
    with pytest.raises(ValueError, match=f"{len(state)} bytes that are no state"):
        generator.set_state(state)
    assert generator.get_state() == before


def test_refusals() -> None:
    generator = CaffeGenerator(0)
    with pytest.raises(ValueError, match="uniform from 1 to 0"):
        generator.uniform((1,), 1, 0)
    with pytest.raises(ValueError, match="gaussian with std 0"):
        generator.gaussian((1,), 0, 0)
    with pytest.raises(ValueError, match=r"bernoulli with p 1\.5"):
        generator.bernoulli((1,), 1.5)
    with pytest.raises(ValueError, match="dtype float16"):
        generator.uniform((1,), 0, 1, np.float16)


def test_draws_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "from caffe_compat.random import CaffeGenerator\n"
        "print(CaffeGenerator(5489).raw())\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "3499211612\n"
