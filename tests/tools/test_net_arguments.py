import argparse
from pathlib import Path

import pytest

from caffe_compat.tools._net_arguments import (
    add_net_arguments,
    add_python_layers_argument,
    add_weights_arguments,
    open_net,
    reshape_of,
    stages_of,
)

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "train" type: "Power" bottom: "x" top: "a" include { phase: TRAIN } }
layer { name: "deep" type: "Power" bottom: "x" top: "b" include { min_level: 2 } }
layer { name: "both" type: "Power" bottom: "x" top: "c" include { stage: "s" stage: "t" } }
"""


def parse(*words: str, **defaults: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_net_arguments(parser, **defaults)
    add_python_layers_argument(parser)
    return parser.parse_args(words)


def test_defaults() -> None:
    assert vars(parse()) == {"phase": "TEST", "level": 0, "stage": "", "allow_python_layers": False}
    assert parse(phase="TRAIN").phase == "TRAIN"


@pytest.mark.parametrize(("text", "stages"), [("", []), ("s", ["s"]), ("s,t", ["s", "t"]), (",s,,t,", ["s", "t"])])
def test_stages(text: str, stages: list[str]) -> None:
    assert stages_of(parse(f"--stage={text}")) == stages


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        ([], ["in"]),
        (["--phase", "TRAIN"], ["in", "train"]),
        (["--level", "2"], ["in", "deep"]),
        (["--level", "1", "--stage", "s"], ["in"]),
        (["--stage", "s,t,u"], ["in", "both"]),
    ],
)
def test_they_choose_among_the_layers(tmp_path: Path, words: list[str], layers: list[str]) -> None:
    (tmp_path / "net").write_text(NET)
    assert [name for name in open_net(tmp_path / "net", None, parse(*words)).layers if "split" not in name] == layers


def test_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "net").write_text('layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 } } }')
    net = open_net(tmp_path / "net", None, parse())
    net.params["w"][0].data.fill_(7)
    net.save(tmp_path / "w.caffemodel")
    assert open_net(tmp_path / "net", tmp_path / "w.caffemodel", parse()).params["w"][0].tolist() == [7, 7]


def test_another_phase_is_refused() -> None:
    with pytest.raises(argparse.ArgumentError, match="invalid choice: 'DEPLOY'"):
        parse("--phase", "DEPLOY")


def test_how_weights_have_to_fit() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_weights_arguments(parser)
    assert vars(parser.parse_args([])) == {"strict": False, "reshape": ""}
    assert parser.parse_args(["--strict"]).strict
    assert reshape_of(parser.parse_args([])) == []
    assert reshape_of(parser.parse_args(["--reshape", "fc6,fc7,"])) == ["fc6", "fc7"]
