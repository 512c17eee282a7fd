"""Each option is declared once; the parser, the defaults and what decides the numbers follow."""

from pathlib import Path

import pytest

from caffe_compat.precision import PRECISIONS
from reproduce import options
from reproduce.options import STEPS, Options, parse


def test_options_of_the_command_line() -> None:
    args = parse(["--layers", "1,3,5-7", "--devices", "cuda:0,1", "--treatments", "base,AnB", "--no-resume"], "")
    assert args.layers == (1, 3, 5, 6, 7)
    assert args.devices == ("cuda:0", "cuda:1")
    assert args.treatments == ("base", "AnB")
    assert not args.resume


def test_layers_are_numbers_or_names() -> None:
    args = parse(["--layers", "layer2.0,7,1-2,inception_3a/1x1,layer2.0"], "")
    assert args.layers == (1, 2, 7, "layer2.0", "inception_3a/1x1")


def test_nothing_said_is_the_default() -> None:
    assert parse([], "") == Options()
    assert (Options().split, Options().data, Options().out) == ("0", "glyphs", Path("paper_run"))
    assert (Options().layers, Options().treatments, Options().devices) == (None, None, ("cpu",))
    assert Options().step == ""


def test_a_step_and_its_folder() -> None:
    assert parse(["report", "there"], "") == Options(step="report", out=Path("there"))
    assert parse(["status", "--out", "there"], "") == Options(step="status", out=Path("there"))
    training = parse(["train", "there", "--devices", "cuda:0", "--jobs", "2", "--retries", "0"], "")
    assert training == Options(step="train", out=Path("there"), devices=("cuda:0",), jobs=2, retries=0)
    assert parse(["prepare", "--split", "all"], "") == Options(step="prepare", split="all")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report x --split 1", "--split is nothing that report asks for; it belongs to the whole job, prepare"),
        ("status x --jobs 1", "--jobs is nothing that status asks for; it belongs to the whole job, prepare, train"),
        ("train x --fast", "--fast is nothing that train asks for; it belongs to the whole job, prepare"),
        ("train x --split 0", "--split is nothing that train asks for; it belongs to the whole job, prepare"),
        ("prepare x --retries 1", "--retries is nothing that prepare asks for; it belongs to the whole job, train"),
        ("report x --out y", "x and --out y: both name the folder; expected one of them"),
    ],
)
def test_an_option_of_another_step_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(words.split(), "")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"run_paper: {message}; see --help\n"


def test_names_of_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], "what it does")
    text = capsys.readouterr().out
    names = "split data out treatments layers iters scale seed devices jobs fast precision resume no-resume download"
    assert all(f"--{name}" in text for name in [*names.split(), "prototxt", "dry-run"])
    assert "what it does" in text
    assert "imagenet:PATH" in text
    assert "(default: paper_run)" in text
    assert all(f"  {step:8} {about}" in text for step, about in STEPS.items())


def test_options_that_decide_the_numbers() -> None:
    assert Options(seed=3, jobs=5).settings_that_decide() == {
        "data": "glyphs",
        "iters": "None",
        "scale": "1.0",
        "seed": "3",
        "same_crops": "False",
        "fast": "False",
        "precision": "fp32",
        "encode_type": "None",
        "separate": "False",
        "prototxt": "None",
        "model": "None",
        "data_a": "None",
        "data_b": "None",
        "resize": "None",
    }


def test_precisions_are_the_packages() -> None:
    assert options.PRECISIONS == PRECISIONS
    for precision in PRECISIONS:
        assert parse(["--precision", precision], "").precision == precision


def test_where_networks_are_trained_and_how_status_is_shown() -> None:
    assert parse(["train", "there", "--ray", "auto"], "").ray == "auto"
    slurm = parse(["train", "there", "--slurm", "partition=gpu,time=240,gpus-per-node=1"], "").slurm
    assert slurm == (("partition", "gpu"), ("time", "240"), ("gpus_per_node", "1"))
    assert parse(["train", "there", "--lease", "90"], "").lease == 90.0
    shown = parse(["status", "there", "--serve", "--port", "9000"], "")
    assert (shown.serve, shown.watch, shown.port) == (True, False, 9000)


def test_json_goes_with_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["status", "there", "--json"], "").json
    assert parse(["--dry-run", "--json"], "").json
    with pytest.raises(SystemExit):
        parse(["--json"], "")
    said = "run_paper: --json: the job prints no table; expected it with --dry-run, or of status; see --help\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--splt 0", "unrecognized arguments: --splt: did you mean --split?"),
        ("--dry_runn=1", "unrecognized arguments: --dry_runn=1: did you mean --dry-run?"),
        ("report x --wings", "unrecognized arguments: --wings: no flag of this command"),
        (
            "--slurm gpu",
            'argument --slurm: "gpu"; expected options of sbatch with commas, '
            "as partition=gpu,time=240,gpus_per_node=1",
        ),
        ("status x --port 65536", 'argument --port: "65536"; expected a number from 1 to 65535'),
        ("--ray auto --slurm time=9", "argument --slurm: not allowed with argument --ray"),
        ("status x --watch --serve", "argument --serve: not allowed with argument --watch"),
        ("--devices gpu", 'argument --devices: "gpu"; expected cpu, or GPUs as cuda:0,1'),
        ("--devices cuda:0,", 'argument --devices: "cuda:0,"; expected cpu, or GPUs as cuda:0,1'),
        ("--devices cuda", 'argument --devices: "cuda"; expected cpu, or GPUs as cuda:0,1'),
        ("--scale nan", 'argument --scale: "nan"; expected a number above 0'),
        ("--scale inf", 'argument --scale: "inf"; expected a number above 0'),
        ("--scale 0", 'argument --scale: "0"; expected a number above 0'),
        ("--scale x", 'argument --scale: "x"; expected a number above 0'),
        ("--layers 7-1", 'argument --layers: "7-1"; expected the smaller depth first, 1-7'),
        ("--layers 1,,2", 'argument --layers: "1,,2"; expected depths with commas, as 1,3,5-7, or names of layers'),
        (
            "--layers 1-99999999999",
            'argument --layers: "1-99999999999"; expected depths with commas, as 1,3,5-7, or names of layers',
        ),
        ("--iters 0", 'argument --iters: "0"; expected a whole number from 1 to 2147483647'),
        ("--iters 99999999999", 'argument --iters: "99999999999"; expected a whole number from 1 to 2147483647'),
        ("--jobs x", 'argument --jobs: "x"; expected a whole number from 1 to 2147483647'),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(words.split(), "")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"run_paper: {message}; see --help\n"
