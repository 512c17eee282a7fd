"""SIGINT, SIGHUP and SIGTERM as requests."""

import os
import signal

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.solver.signals import SignalActions


def test_each_signal_is_answered_once_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)
    with SignalActions() as actions:
        assert actions.requested() == "none"
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        assert [actions.requested() for _ in range(3)] == ["snapshot", "stop", "none"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)) == before


def test_effects_can_be_chosen() -> None:
    with SignalActions(sigint_effect="none", sighup_effect="stop") as actions:
        os.kill(os.getpid(), signal.SIGINT)
        assert actions.requested() == "none"
        os.kill(os.getpid(), signal.SIGHUP)
        assert actions.requested() == "stop"
    with pytest.raises(SolverError, match='--sighup_effect is "explode"; expected stop, snapshot or none'):
        SignalActions(sighup_effect="explode")


def test_sigterm_is_a_request_only_where_asked() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with SignalActions():
        assert signal.getsignal(signal.SIGTERM) is before
    with SignalActions(sigterm_effect="stop") as actions:
        os.kill(os.getpid(), signal.SIGTERM)
        assert [actions.requested() for _ in range(2)] == ["stop", "none"]
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SolverError, match='--sigterm_effect is "explode"; expected stop, snapshot or none'):
        SignalActions(sigterm_effect="explode")
