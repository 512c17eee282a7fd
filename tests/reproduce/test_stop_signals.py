"""A signal to leave is noted, and does what it did before afterwards."""

import os
import signal
import threading

from reproduce.stop_signals import LEAVE, StopSignals


def test_the_first_signal_is_noted_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in LEAVE]
    with StopSignals() as signals:
        assert not signals.asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked()
        assert signals.seen == signal.SIGUSR1
    assert [signal.getsignal(number) for number in LEAVE] == before


def test_in_another_thread_nothing_is_changed() -> None:
    found: list[object] = []

    def enter() -> None:
        with StopSignals() as signals:
            found.extend([signal.getsignal(signal.SIGTERM), signals.seen])

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM), 0]
