"""Each option is declared once; the parser, the defaults and what decides the numbers follow."""

from pathlib import Path

import pytest

from caffe_compat.precision import PRECISIONS
from reproduce.options import Options, parse


def test_options_of_the_command_line() -> None:
    args = parse(["--layers", "1,3,5-7", "--devices", "cuda:0,1", "--treatments", "base,AnB", "--no-resume"], "")
    assert args.layers == (1, 3, 5, 6, 7)
    assert args.devices == ("cuda:0", "cuda:1")
    assert args.treatments == ("base", "AnB")
    assert not args.resume


def test_nothing_said_is_the_default() -> None:
    assert parse([], "") == Options()
    assert (Options().split, Options().data, Options().out) == ("0", "glyphs", Path("paper_run"))
    assert (Options().layers, Options().devices) == ((1, 2, 3, 4, 5, 6, 7), ("cpu",))


def test_names_of_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], "what it does")
    text = capsys.readouterr().out
    names = "split data out treatments layers iters scale seed devices jobs fast precision resume no-resume download"
    assert all(f"--{name}" in text for name in [*names.split(), "prototxt", "dry-run"])
    assert "what it does" in text
    assert "imagenet:PATH" in text
    assert "(default: paper_run)" in text


def test_options_that_decide_the_numbers() -> None:
    assert Options(seed=3, jobs=5).settings_that_decide() == {
        "data": "glyphs",
        "iters": "None",
        "scale": "1.0",
        "seed": "3",
        "fast": "False",
        "precision": "fp32",
        "prototxt": "None",
    }


def test_precisions_are_the_packages() -> None:
    for precision in PRECISIONS:
        assert parse(["--precision", precision], "").precision == precision
