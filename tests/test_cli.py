"""The command line: finding tools, gflags' forms of flags, exit statuses."""

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Never

import pytest

from caffe_compat import cli, glog, glog_settings
from caffe_compat.cli import add_arguments, commands, from_gflags, main, module_of
from caffe_compat.tools import train

ROOT = Path(__file__).parent.parent


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    made.add_argument("--solver")
    made.add_argument("--iterations", type=int)
    made.add_argument("--gray", action="store_true")
    made.add_argument("--snapshot", default="")
    made.add_argument("-q", "--quiet", action="store_true")
    made.add_argument("--log-json")
    made.add_argument("files", nargs="*")
    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--solver=a", {"solver": "a"}),
        ("--solver a", {"solver": "a"}),
        ("-solver a", {"solver": "a"}),
        ("-solver=a -iterations=3", {"solver": "a", "iterations": 3}),
        ("-iterations -3", {"iterations": -3}),
        ("--solver=a=b", {"solver": "a=b"}),
        ("-gray x y", {"gray": True, "files": ["x", "y"]}),
        ("--gray=true", {"gray": True}),
        ("--gray=false", {"gray": False}),
        ("--gray --nogray", {"gray": False}),
        ("-q x", {"quiet": True, "files": ["x"]}),
        ("--log_json f", {"log_json": "f"}),
        ("--snapshot= x", {"snapshot": "", "files": ["x"]}),
        ("x -- -solver", {"files": ["x", "-solver"]}),
    ],
)
def test_gflags_forms(words: str, expected: dict[str, object]) -> None:
    made = parser()
    plain, switched_off = from_gflags(made, words.split())
    values = vars(made.parse_args(plain)) | dict.fromkeys(switched_off, False)
    assert {key: values[key] for key in expected} == expected
    assert {key for key, value in values.items() if value} <= set(expected)


def test_wrong_truth_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        from_gflags(parser(), ["--gray=maybe"])
    assert "expected true or false" in capsys.readouterr().err


def test_every_tool_has_one_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name in ("train", "test", "time", "device_query", "extract_features"):
        assert commands()[name]
        assert f"  {name} " in overview


@pytest.mark.parametrize("name", commands())
def test_every_help_has_examples_that_the_command_takes(name: str) -> None:
    tool = importlib.import_module(module_of(name) or "")
    examples = re.findall(r"^ *caffe-compat (.+)$", tool.__doc__ or "", re.MULTILINE)
    if not hasattr(tool, "add_arguments"):  # run_paper.py; tests/reproduce has its words
        return
    assert examples
    for example in examples:
        command, *words = shlex.split(example.partition(" > ")[0], comments=True)
        assert command == name
        parser = argparse.ArgumentParser(allow_abbrev=False)
        add_arguments(parser, tool)
        parser.parse_args(from_gflags(parser, words)[0])


@pytest.mark.parametrize("name", commands())
def test_every_help_says_the_true_defaults(name: str) -> None:
    tool = importlib.import_module(module_of(name) or "")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    if not hasattr(tool, "add_arguments"):
        return
    add_arguments(parser, tool)
    for action in parser._actions:  # noqa: SLF001  (argparse has no public list of its options)
        if action.default == argparse.SUPPRESS:
            continue
        # A word that is a choice or a number; other words tell what happens without the flag, whose default is none.
        said = re.findall(r"[Dd]efault:? ([\w./-]+)", action.help or "")
        values = [word for word in said if re.fullmatch(r"[\d.e-]+", word) or word in (action.choices or ())]
        true = str(action.default).removesuffix(".0") if action.default else None
        place = f"{name} {'/'.join(action.option_strings) or action.dest}: {action.help}"
        if values:
            assert values == [true or "0"], place
        elif true:
            assert true in said, f"{place}; the default is {true}"


def test_help_waits_for_no_torch() -> None:
    words = [["--help"], ["--version"], ["help", "train"], ["trian"], ["train", "--solvr=a"], ["completion", "bash"]]
    words += [[name, "--help"] for name in commands()]
    code = (
        "import sys\nfrom caffe_compat.cli import main\n"
        f"for words in {words}:\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [[], ["fly"], ["train"], ["train", "--solver=a", "--wings=2"], ["caffe", "fly"]])
def test_wrong_usage_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err


def test_snapshot_and_weights_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver=a", "--snapshot=b", "--weights=c"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caffe", "train", "--help"]) == 0
    assert "--sighup_effect" in capsys.readouterr().out


def test_help_command_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "train"]) == 0
    assert "--sighup_effect" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("tran", "did you mean train?"),
        ("device-qury", "did you mean device_query?"),
        ("fly", "there are compare, "),
        ("--versoin", "did you mean --version?"),
    ],
)
def test_an_unknown_command_is_told_the_nearest(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"caffe-compat: unknown command {word!r}; {hint}")
    assert said.count("\n") == 1


def test_a_command_that_reads_its_words_itself_has_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: caffe-compat reproduce [-h] ")
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "--splt", "0"])
    assert stopped.value.code == 2
    said = "caffe-compat reproduce: unrecognized arguments: --splt: did you mean --split?; see --help\n"
    assert capsys.readouterr().err == said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("caffe-compat ")


def test_an_error_of_ours_is_one_line_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver=gone.prototxt"]) == 1
    line = "caffe-compat train: gone.prototxt: cannot be read: No such file or directory (working directory"
    assert capsys.readouterr().err == f"{line} {os.getcwd()})\n"


def test_an_error_of_the_system_is_one_line_and_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(args: argparse.Namespace) -> Never:
        raise OSError(28, "No space left on device", "snap_iter_3.caffemodel")

    monkeypatch.setattr(train, "run", full)
    assert main(["train", "--solver=a"]) == 1
    assert capsys.readouterr().err == "caffe-compat train: snap_iter_3.caffemodel: No space left on device\n"


def test_an_error_of_the_program_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: argparse.Namespace) -> Never:
        raise ZeroDivisionError

    monkeypatch.setattr(train, "run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["train", "--solver=a"])


def test_schema_adds_the_fields_of_a_fork(tmp_path: Path) -> None:
    (tmp_path / "fork.proto").write_text(
        "message LayerParameter { optional FooParameter foo_param = 7000; }"
        "message FooParameter { optional float eps = 1; }"
    )
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } foo_param { eps: 1 } }'
    )
    command = [sys.executable, "-m", "caffe_compat.cli", "summary", str(tmp_path / "net.prototxt")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "foo_param" in refused.stderr
    accepted = subprocess.run([*command, "--schema", str(tmp_path / "fork.proto")], capture_output=True, text=True)
    assert accepted.returncode == 0
    assert "warning: " in accepted.stderr
    assert "field foo_param has no effect" in accepted.stderr


def test_another_package_adds_a_command(tmp_path: Path) -> None:
    (tmp_path / "greetings.py").write_text(
        '"""Greet somebody."""\n'
        "def add_arguments(parser): parser.add_argument('--name')\n"
        "def run(args): print('hello', args.name); return 3\n"
    )
    info = tmp_path / "greetings-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
    points = "greet = greetings\nlost = nowhere.command\ntrain = greetings\n"
    (info / "entry_points.txt").write_text(f"[caffe_compat.commands]\n{points}")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-m", "caffe_compat.cli", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    greeted = run("greet", "-name", "Ada")
    assert (greeted.returncode, greeted.stdout) == (3, "hello Ada\n")
    overview = run("--help").stdout
    assert "  Greet somebody." in overview
    assert "Train or fine-tune a net" in overview  # a command of ours keeps its name
    assert "lost" not in overview
    assert run("lost").returncode == 2


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "absent")
    line = f"caffe-compat inspect_db: {absent}: no such database; make it with convert_imageset\n"
    assert main(["inspect_db", absent]) == 1
    assert capsys.readouterr().err == line
    assert main(["inspect_db", absent, "--debug"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert shown.endswith(f"\n{line}")


SOLVER = """
net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 2 display: 1 snapshot_prefix: "snap"
"""
NET = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 1 } data_filler { value: 1 } } }
layer { name: "loss" type: "Reduction" bottom: "x" top: "loss" loss_weight: 1 }
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-solver", "s.prototxt", "train"],
        ["-solver=s.prototxt", "-log_dir", "logs", "train"],
        ["-log_dir", "logs", "train", "--solver=s.prototxt", "-alsologtostderr", "--stderrthreshold=0"],
        ["train", "-solver", "s.prototxt", "-logtostderr=1", "-log_dir=logs", "--nologtostderr"],
        ["--stop_at_nan", "train", "--solver", "s.prototxt"],
    ],
)
def test_flags_in_any_order_and_glogs(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(glog_settings, "SETTINGS", glog_settings.GlogSettings())
    for module in (cli, glog):
        monkeypatch.setattr(module, "SETTINGS", glog_settings.SETTINGS)
    (tmp_path / "logs").mkdir()
    (tmp_path / "s.prototxt").write_text(SOLVER)
    (tmp_path / "net.prototxt").write_text(NET)
    assert main(words) == 0
    shown = capfd.readouterr().err
    assert "Iteration 1 (" in shown
    files = list((tmp_path / "logs").glob("*.INFO"))
    assert bool(files) == any("log_dir" in word for word in words)
    assert all("Iteration 1 (" in file.read_text() for file in files)
    glog_settings.SETTINGS.close()


def test_a_variable_of_glogs_that_cannot_be_is_one_line() -> None:
    environment = {**os.environ, "GLOG_minloglevel": "x"}
    command = [sys.executable, "-m", "caffe_compat.cli", "inspect_db", "absent"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (
        1,
        "caffe-compat inspect_db: minloglevel is 'x'; expected a severity from 0 (all lines) to 3\n",
    )


def test_glog_flags_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver=s", "-minloglevel", "x"]) == 1
    assert "minloglevel is 'x'; expected a severity" in capsys.readouterr().err
    assert main(["train", "-log_dir"]) == 1
    assert "-log_dir: a value is missing" in capsys.readouterr().err
