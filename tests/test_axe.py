"""``make axe`` itself: what it prints and says; a browser is not needed here."""

import sys
from pathlib import Path

import pytest

from tests import axe


def test_a_line_for_each_element() -> None:
    nodes = [{"target": ["svg"], "html": "<svg\n  width='3'>"}, {"target": ["#a", "td"], "html": "<td>"}]
    violation = {"id": "svg-img-alt", "impact": "serious", "help": "images have a text", "nodes": nodes}
    assert axe.findings([violation]) == [
        "svg-img-alt (serious): images have a text: svg: <svg width='3'>",
        "svg-img-alt (serious): images have a text: #a td: <td>",
    ]


def test_a_file_becomes_its_address(tmp_path: Path) -> None:
    (tmp_path / "a b.html").touch()
    assert axe.address(str(tmp_path / "a b.html")) == f"file://{tmp_path}/a%20b.html"
    assert axe.address("http://127.0.0.1:8000/") == "http://127.0.0.1:8000/"


def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    page.touch()
    assert axe.main([str(tmp_path / "none.html")]) == 2
    assert "none.html: no such file" in capsys.readouterr().err
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert axe.main([str(page)]) == 2
    assert capsys.readouterr().err == "axe: no Chromium found; on Debian run: apt-get install chromium\n"
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/chromium")
    monkeypatch.setitem(sys.modules, "axe_playwright_python", None)
    assert axe.main([str(page)]) == 2
    assert capsys.readouterr().err.startswith("axe: axe-core is not installed; run: ")
