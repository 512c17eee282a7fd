"""The page of a run: what it shows, that nothing in it is taken for HTML, and who may ask for it."""

import asyncio
import json
import socket
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from starlette.testclient import TestClient

from caffe_compat.errors import DataError
from reproduce.lease import Lease
from reproduce.status_page import application, curve_points, events, serve
from reproduce.treatments import base_half, transfer
from tests.reproduce.test_publish import put
from tests.reproduce.test_status import put_course


class Cells(HTMLParser):
    """The texts of a table's cells, row by row, and all start tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def run_of_three(out: Path) -> None:
    put(base_half("0", "A"), out, 0.5)
    put(base_half("0", "B"), out, failed="<script>alert(1)</script> & more")
    put(transfer("0", "A", "A", 1), out)
    put_course(out / "transfer0A0A_1_1", [(1.0, 0, 4.0), (3.0, 20, 2.0)])


def client(out: Path) -> TestClient:
    return TestClient(application(out), base_url="http://127.0.0.1")


def test_the_page_without_javascript(tmp_path: Path) -> None:
    run_of_three(tmp_path)
    with Lease(tmp_path / "transfer0A0A_1_1"):
        answer = client(tmp_path).get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    found = Cells(answer.text)
    head, done, failed, training = found.rows
    assert head == ["Network", "State", "Progress", "Loss", "Time left", "Trained by", "Details"]
    assert done[:2] == ["half0A", "done"]
    assert done[6] == "accuracy 0.500"
    assert failed[:2] == ["half0B", "failed"]
    assert failed[6] == "<script>alert(1)</script> & more"  # a text, read back from the escaped form
    assert training[:2] == ["transfer0A0A_1_1", "training"]
    assert training[4] == "2 s"
    assert "process" in training[5]
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert ("polyline", {"points": "0.0,2.0 50.0,16.0"}) in found.tags
    assert not [a for _, attributes in found.tags for a in attributes if a in ("src", "href")]  # no other files
    assert f"{tmp_path}: 3 networks: 1 done, 1 training, 1 failed; about 2 s left" in answer.text


def test_another_name_of_this_machine_is_refused(tmp_path: Path) -> None:
    run_of_three(tmp_path)
    assert TestClient(application(tmp_path), base_url="http://attacker.example").get("/").status_code == 400


def test_an_event_has_the_table_when_it_has_changed(tmp_path: Path) -> None:
    run_of_three(tmp_path)

    async def three() -> list[str]:
        stream = events(tmp_path, 0.0)
        first = [await anext(stream), await anext(stream)]
        put(transfer("0", "A", "B", 1), tmp_path)
        return [*first, await anext(stream)]

    first, second, third = asyncio.run(three())
    assert second == ": nothing new\n\n"
    tables = [Cells(json.loads(text.removeprefix("data: "))) for text in (first, third)]
    assert [len(table.rows) for table in tables] == [4, 5]
    assert first.count("\n") == 2  # one line of data, then the blank one that ends an event


def test_a_damaged_folder_is_said_on_the_page(tmp_path: Path) -> None:
    run_of_three(tmp_path)
    (tmp_path / "half0A" / "network.json").write_text("{")
    answer = client(tmp_path).get("/")
    assert answer.status_code == 200
    assert "half0A/network.json" in answer.text


def test_a_curve_in_its_box() -> None:
    assert curve_points([(0, 2.0), (5, 1.0), (10, 0.0)], 10) == "0.0,2.0 50.0,16.0 100.0,30.0"
    assert curve_points([(0, 2.0)], 10) == ""
    assert curve_points([(0, float("nan")), (5, float("inf"))], 10) == ""
    assert len(curve_points([(i, 1.0) for i in range(100_000)], 100_000).split()) <= 162


def test_a_port_that_is_taken_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    run_of_three(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        serve(tmp_path / "nowhere", 8470, Console(quiet=True))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=f"--port {port}: cannot be used; choose another one"):
            serve(tmp_path, port, Console(quiet=True))
