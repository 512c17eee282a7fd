import ctypes
import sys
from typing import Any

import pytest

from caffe_compat.data import libc_random
from caffe_compat.data.libc_random import LibcRandom


@pytest.mark.skipif(sys.platform != "linux", reason="compares with the GNU C library")
def test_libc_random_is_glibc_s() -> None:
    libc, ours = ctypes.CDLL(None), LibcRandom(1)
    libc.srand(1)
    assert [ours.next() for _ in range(1000)] == [libc.rand() for _ in range(1000)]


def test_numbers_of_a_process_that_seeds_nothing() -> None:
    """As every C program on Linux prints them."""
    ours = LibcRandom(1)
    assert [ours.next() for _ in range(3)] == [1804289383, 846930886, 1681692777]


def test_shuffle_is_libstdcs() -> None:
    """Place i changes with place rand() % (i + 1), from the second place on."""
    items, draws = list("abcdef"), LibcRandom(7)
    expected = list(items)
    for i in range(1, len(expected)):
        j = draws.next() % (i + 1)
        expected[i], expected[j] = expected[j], expected[i]
    LibcRandom(7).shuffle(items)
    assert items == expected
    assert items != list("abcdef")


def test_state_returns_to_a_position() -> None:
    stream = LibcRandom(3)
    stream.next()
    state = stream.get_state()
    expected = [stream.next() for _ in range(50)]
    stream.set_state(state)
    assert [stream.next() for _ in range(50)] == expected


def test_a_scope_has_a_stream_of_its_own() -> None:
    with libc_random.scope():
        outer = libc_random.process_random()
        assert outer.next() == 1804289383
        with libc_random.scope():
            assert libc_random.process_random().next() == 1804289383
        assert libc_random.process_random() is outer
        assert outer.next() == 846930886
        libc_random.restart_process_random()
        assert outer.next() == 1804289383


@pytest.mark.parametrize("change", [{0: 31}, {0: None}, {1: -1}, {31: 1 << 32}, {5: 2.5}, {5: True}])
def test_what_is_no_state_changes_nothing(change: dict[int, object]) -> None:
    draws = LibcRandom(1)
    before = draws.get_state()
    state: list[Any] = list(before)
    for place, value in change.items():
        state[place] = value
    for wrong in (state, before[:-1], []):
        with pytest.raises(ValueError, match="state of rand"):
            draws.set_state(wrong)
    assert draws.get_state() == before
