import sys

import pytest

from caffe_compat.progress import show_progress


def test_elsewhere_than_on_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("adding", 10) as update:
        for done in range(11):
            update(done)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with show_progress("adding", 10) as update:
        update(7)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "adding" in captured.err
    assert "7/10" in captured.err


def test_an_error_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), show_progress("adding", 10) as update:
        update(1 // 0)
