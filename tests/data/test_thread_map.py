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

    before = set(threading.enumerate())
    mapped = ThreadMap(2)
    with pytest.raises(KeyError, match="3"):
        mapped(fail, range(10000))
    mapped.close()
    assert len(started) < 10000
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("possible", [0, 1])
def test_fewer_threads_than_asked_for(monkeypatch: pytest.MonkeyPatch, possible: int) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_some(thread: threading.Thread) -> None:
        if len(started) >= possible:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    threads = ThreadMap(4)
    for _ in range(2):
        assert threads(lambda x: 2 * x, range(50)) == [2 * x for x in range(50)]
    with pytest.raises(ZeroDivisionError):
        threads(lambda x: 1 // x, [1, 0, 2])
    threads.close()
