"""Table, figures and report come from whatever is finished in a folder."""

import csv
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from caffe_compat.solver import events
from reproduce.comparisons import Difference, Verdict
from reproduce.folder_networks import write_network
from reproduce.network import Network
from reproduce.options import Options
from reproduce.plan import planned_networks
from reproduce.publish import headline, in_words, publish, settings_in_words
from reproduce.results import Result
from reproduce.settings import note_settings
from reproduce.treatments import RANDOM, base_half, transfer


def put(network: Network, out: Path, accuracy: float | None = None, failed: str = "") -> None:
    """The folder of a network, finished with an accuracy, or not."""
    folder = out / network.name
    folder.mkdir(parents=True)
    write_network(network, folder)
    (folder / "solver.prototxt").write_text("max_iter: 40")
    if failed:
        (folder / "failed").write_text(failed)
    if accuracy is not None:
        outputs = {"accuracy": accuracy, "loss": 1.0}
        event = {"event": "test", "iteration": 0, "time": 1.0, "net": 0, "loss": None, "outputs": outputs}
        (folder / "train.jsonl").write_text(json.dumps(event) + "\n")
        (folder / "done").touch()


def test_two_splits_in_one_folder_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[Result]] = []

    def draw_all(ours: list[Result], *_: object, **__: object) -> dict[str, Path]:
        drawn.append(ours)
        return {}

    monkeypatch.setattr("reproduce.figures.draw_all", draw_all)
    for i, network in enumerate(planned_networks("0,natman", ["AnB"], [4])):
        put(network, tmp_path, 0.5 + i / 64)
    results, problems = publish(tmp_path)
    assert problems == {}
    names = ["half0A", "half0B", "transfer0A0B_1_4", "transfer0B0A_1_4"]
    names += ["halfnatmanA", "halfnatmanB", "transfernatmanAB_1_4", "transfernatmanBA_1_4"]
    assert [(r.network, r.accuracy) for r in results] == [(name, 0.5 + i / 64) for i, name in enumerate(names)]
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["network"] for row in rows] == names
    differences = {
        (row["halves"], row["treatment"]): row for row in csv.DictReader((tmp_path / "differences.csv").open())
    }
    assert list(differences) == [(h, t) for h in ("random", "natural") for t in ("base", "AnB")]
    # each against the base of the half that it is trained on: B is the other one's number less by one
    assert float(differences["random", "AnB"]["difference"]) == (2 / 64 - 1 / 64 + 3 / 64 - 0) / 2
    assert drawn == [results]


def test_what_is_not_finished_is_named_with_its_reason(tmp_path: Path) -> None:
    note_settings(Options(out=tmp_path), 1)
    put(base_half("0", "A"), tmp_path, 0.5)
    put(base_half("0", "B"), tmp_path, failed="2026-11-26 21:00:00 half0B: no space left")
    put(transfer("0", "A", "B", 1), tmp_path)
    put(transfer("0", "B", "A", 1), tmp_path)
    put(RANDOM.network(3), tmp_path, 0.25)
    (tmp_path / "nolearn_1_3" / "train.jsonl").write_text("")  # damaged: the others are drawn all the same
    _, problems = publish(tmp_path)
    assert list(problems) == ["nolearn_1_3"]
    made = sorted(path.name for path in (tmp_path / "figures").glob("*.svg"))
    assert made == ["fig2_lines.svg", "fig2_points.svg"]
    text = (tmp_path / "report.html").read_text()
    said = (
        "This run trained 1 of 5 networks of split 0 on glyphs (letters and digits, drawn on the spot), not on the "
        "paper&#39;s ImageNet; of the paper&#39;s claims it did not run “random features collapse with depth”"
    )
    assert f'<p class="lead">{said}' in text
    assert '<tr><th scope="row">half0B</th><td>failed: 2026-11-26 21:00:00 half0B: no space left</td></tr>' in text
    assert '<tr><th scope="row">nolearn_1_3</th><td>' in text
    assert "no test in it" in text
    assert '<tr><th scope="row">transfer0B0A_1_1</th><td>waits for half0B</td></tr>' in text
    assert '<tr><th scope="row">transfer0A0B_1_1</th><td>not finished</td></tr>' in text
    assert sha256((tmp_path / "results.csv").read_bytes()).hexdigest() in text


def test_each_log_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = events.read_events

    def counted(path: Path) -> Iterator[events.Event]:
        opened.append(path.parent.name)
        return read(path)

    monkeypatch.setattr(events, "read_events", counted)
    monkeypatch.setattr("reproduce.figures.draw_all", lambda *_, **__: {})
    for half in "AB":
        put(base_half("0", half), tmp_path, 0.5)
    publish(tmp_path)
    assert opened == ["half0A", "half0B"]
    assert (tmp_path / "tests.csv").read_text().count("\n") == 3
    assert "half0A: test accuracy from 0.500 to 0.500" in (tmp_path / "report.html").read_text()


def test_nothing_finished_is_an_error(tmp_path: Path) -> None:
    put(base_half("0", "A"), tmp_path)
    with pytest.raises(DataError, match="no network is finished here; `status "):
        publish(tmp_path)
    assert not (tmp_path / "results.csv").exists()


def test_the_first_sentence_says_what_becomes_of_each_claim() -> None:
    sure, other = Difference(6, -0.1, -0.2, -0.05), Difference(6, -0.1, -0.2, 0.05)
    found = [
        Verdict("a: with numbers", sure, -1),
        Verdict("b: with numbers", sure, 1),
        Verdict("c: with numbers", other, 1),
        Verdict("d: with numbers", Difference(1, 0.5), 1),
        Verdict("e: with numbers", None, 1),
    ]
    said = "of the paper's claims it shows “a”; it contradicts “b”; it leaves open “c”, “d”; it did not run “e”"
    assert in_words(found) == said
    assert headline({"data": "imagenet:/x"}, [], 170).startswith(
        "This run trained 0 of 170 networks on imagenet:/x (ILSVRC12, as it is downloaded or as caffe-compat "
        "prepare_imagenet left it); of the paper's claims it did not run "
    )


def test_settings_are_words() -> None:
    noted = {"data": "glyphs", "iters": "None", "fast": "False", "encode_type": "jpg", "threads": 1}
    assert settings_in_words(noted) == {"data": "glyphs", "encode-type": "jpg", "threads": "1"}
