import pickle
import threading

import pytest

from caffe_compat.data.thread_map import ThreadMap


def test_results_are_in_order_and_every_item_is_done_once() -> None:
    done: list[int] = []
    mapped = ThreadMap(3)

    def double(i: int) -> int:
        done.append(i)
        return 2 * i

    assert mapped(double, range(100)) == list(range(0, 200, 2))
    assert sorted(done) == list(range(100))
    assert pickle.loads(pickle.dumps(mapped))(abs, [-1]) == [1]
    assert mapped(abs, []) == []
    mapped.close()


def test_an_exception_ends_it_and_reaches_the_caller() -> None:
    started = []

    def fail(i: int) -> None:
        started.append(i)
        if i == 3:
            raise KeyError(i)

    before = threading.active_count()
    mapped = ThreadMap(2)
    with pytest.raises(KeyError, match="3"):
        mapped(fail, range(10000))
    mapped.close()
    assert len(started) < 10000
    assert threading.active_count() == before
