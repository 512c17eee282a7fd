"""A stop watch."""

import time

import pytest

import caffe_compat.pycaffe as caffe


def test_milliseconds_between_start_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.25, 20.0, 20.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    timer.stop()
    assert timer.ms == 250
    timer.start()
    assert timer.ms == 500, "it stops the timer"
    assert timer.ms == 500
