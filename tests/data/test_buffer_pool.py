import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from caffe_compat.data.buffer_pool import BufferPool

SHAPE = (3, 4, 5)


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_an_array_is_whole_and_its_own() -> None:
    pool = BufferPool()
    first, second = pool.take(SHAPE, np.float32), pool.take(SHAPE, np.float32)
    assert first.shape == SHAPE
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert first.flags.writeable
    first[...], second[...] = 1, 2
    assert (first == 1).all()
    assert not np.shares_memory(first, second)
    assert pool.take((0, 3), np.uint8).shape == (0, 3)


def test_memory_comes_back_and_is_used_again() -> None:
    pool = BufferPool()
    array = pool.take(SHAPE, np.float32)
    place = address(array)
    del array
    # The same number of bytes will do, whatever the shape and the dtype.
    again = pool.take((60,), np.int32)
    assert address(again) == place
    assert again.dtype == np.int32


def test_views_slices_and_tensors_keep_it_taken() -> None:
    pool = BufferPool()
    views: list[Callable[[np.ndarray], object]] = [
        lambda a: a[1:, ::2],
        lambda a: a.reshape(-1)[7:8],
        lambda a: a.T[0],
        lambda a: a.view(np.uint8)[0][1:],
        lambda a: torch.from_numpy(a),
        lambda a: torch.from_numpy(a)[1].flatten()[3:],
        lambda a: torch.from_numpy(a[1:]).numpy()[0],
        lambda a: a.data[1:],
        lambda a: np.asarray(memoryview(a[0])),
        lambda a: [a[0, 0]],
    ]
    for view in views:
        array = pool.take(SHAPE, np.float32)
        place, kept = address(array), view(array)
        del array
        assert address(pool.take(SHAPE, np.float32)) != place
        del kept
        gc.collect()
        assert place in [address(a) for a in [pool.take(SHAPE, np.float32) for _ in range(1)]]


def test_content_stays_while_somebody_looks() -> None:
    pool = BufferPool()
    held = []
    for number in range(30):
        array = pool.take(SHAPE, np.float32)
        array[...] = number
        held.append(torch.from_numpy(array[1]))
        del array
    assert [int(tensor.unique()) for tensor in held] == list(range(30))


def memory_of(array: np.ndarray) -> Any:
    root: Any = array.base
    return root.base.obj  # behind the root's memoryview


def test_memory_of_another_size_is_let_go() -> None:
    pool = BufferPool()
    small = pool.take((10,), np.uint8)
    owner = weakref.ref(memory_of(small))
    del small
    assert owner() is not None
    large = pool.take((11,), np.uint8)
    assert owner() is None
    assert large.shape == (11,)


def test_a_pool_that_goes_first_leaves_no_memory_behind() -> None:
    pool = BufferPool()
    array = pool.take(SHAPE, np.float32)
    array[...] = 5
    owner = weakref.ref(memory_of(array))
    gone = weakref.ref(pool)
    del pool
    assert gone() is None
    view = array[1:]
    del array
    assert (view == 5).all()
    del view
    assert owner() is None


def test_many_threads() -> None:
    """Each fills what it takes with its own number, and finds it unchanged."""
    pool = BufferPool()
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(300):
            arrays = [pool.take((1000,), np.int64) for _ in range(3)]
            for place, array in enumerate(arrays):
                array[...] = 10 * number + place
            wrong.extend(turn for place, array in enumerate(arrays) if (array != 10 * number + place).any())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_given_away_in_one_thread_and_forgotten_in_another() -> None:
    pool = BufferPool()
    box = [pool.take(SHAPE, np.float32)]
    place = address(box[0])
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert address(pool.take(SHAPE, np.float32)) == place


def test_a_pickled_pool_is_an_empty_one() -> None:
    pool = BufferPool()
    array = pool.take(SHAPE, np.float32)
    assert not np.shares_memory(pickle.loads(pickle.dumps(pool)).take(SHAPE, np.float32), array)
