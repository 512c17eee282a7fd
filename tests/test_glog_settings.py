"""From which severity on lines are written, and where to."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffe_compat.errors import CaffeCompatError
from caffe_compat.glog_settings import SETTINGS, GlogSettings
from caffe_compat.solver.log import Log

LINES = ["I0101 a] one\n", "W0101 a] two\n", "E0101 a] three\n"]


@pytest.fixture
def settings() -> Iterator[GlogSettings]:
    settings = GlogSettings()
    yield settings
    settings.close()


def written(settings: GlogSettings) -> str:
    stream = io.StringIO()
    for line in LINES:
        settings.write(line, stream)
    return stream.getvalue()


@pytest.mark.parametrize("least", range(4))
def test_the_least_severity(settings: GlogSettings, least: int) -> None:
    settings.set("minloglevel", str(least))
    assert written(settings) == "".join(LINES[least:])


def test_a_solvers_log_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTINGS, "least", 1)
    stream = io.StringIO()
    log = Log(stream)
    log.done(3)
    log.warning("a.py:1", "careful")
    assert stream.getvalue().endswith("a.py:1] careful\n")
    assert "Done" not in stream.getvalue()


def test_files(settings: GlogSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/caffe"])
    settings.set("log_dir", str(tmp_path))
    assert written(settings) == "".join(LINES), "stderr gets them, too"
    for name, lines in (("INFO", LINES), ("WARNING", LINES[1:]), ("ERROR", LINES[2:])):
        link = tmp_path / f"caffe.{name}"
        assert link.is_symlink()
        assert link.resolve().name.startswith("caffe.")
        text = link.read_text()
        assert text.startswith("Log file created at: ")
        assert text.endswith("[IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n" + "".join(lines))
    before = (tmp_path / "caffe.INFO").read_text()
    settings.set("logtostderr", "true")
    written(settings)
    assert (tmp_path / "caffe.INFO").read_text() == before
    assert len(list(tmp_path.iterdir())) == 6


def test_what_is_set_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "2")
    settings = GlogSettings(unread=True)
    settings.set("minloglevel", "1")
    assert written(settings) == "".join(LINES[1:])
    assert written(GlogSettings(unread=True)) == LINES[2]


def test_the_environment(settings: GlogSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.setenv("GLOG_log_dir", str(tmp_path))
    monkeypatch.setenv("GLOG_logtostderr", "1")
    settings.set_from_environment()
    assert (settings.least, settings.folder, settings.only_stderr) == (2, str(tmp_path), True)


def test_values_that_are_none(settings: GlogSettings, tmp_path: Path) -> None:
    with pytest.raises(CaffeCompatError, match="minloglevel is 'low'; expected a severity from 0"):
        settings.set("minloglevel", "low")
    with pytest.raises(CaffeCompatError, match=r"log_dir: .*gone: no such folder; make it first"):
        settings.set("log_dir", str(tmp_path / "gone"))
