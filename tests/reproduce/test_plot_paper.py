"""``caffe-compat plot_paper``: table and report from logs alone."""

import csv
from pathlib import Path

import pytest

from caffe_compat.cli import commands, main
from reproduce.logs import FromLogs
from reproduce.plot_paper import as_published
from reproduce.results import paper_results
from tests.reproduce.test_logs import lines_of_2014, put


def test_the_command_is_listed() -> None:
    about = "Table, figures and report of the paper from training logs alone: the authors' published ones, or your own."
    assert commands()["plot_paper"] == about


def test_from_logs_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(
        tmp_path / "half0A",
        "140403_063910_half0A.o227963.gz",
        lines_of_2014(3, {0: (0.25, 2.0), 1000: (0.5, 1.5)}, {20: 3.0}),
    )
    put(tmp_path / "half0B", "train.log", "killed\n")
    out = tmp_path / "out"
    assert main(["plot_paper", f"--logs={tmp_path}", f"--out={out}", "--imagenet"]) == 1
    said = capsys.readouterr()
    assert "results.csv: 1 networks from 2 logs; 0 of them as in the authors' table of 148" in said.out
    assert said.err == "plot_paper: half0B: no test in its logs (train.log)\n"
    (row,) = csv.DictReader((out / "results.csv").open())
    assert (row["network"], row["accuracy"], row["accuracy_final"], row["loss"]) == ("half0A", "0.375", "0.5", "1.5")
    text = (out / "report.html").read_text()
    assert (
        '<p class="lead">These are 1 networks, read from 2 training logs; of the paper&#39;s claims it did not run '
        in text
    )
    assert "training loss 3.000, test accuracy 0.500" in text
    assert "the authors&#39;, underneath" in text.replace("'", "&#39;")  # the curves lie over theirs


def test_the_authors_table_equals_itself() -> None:
    paper = paper_results()
    assert as_published(FromLogs(paper, [], {}, 354), paper) == "148 of them as in the authors' table of 148"
