"""Golden cases of the three upgrade tools: what Caffe 1.0's own tools made of old files."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Literal

from caffe_compat.proto import caffe_pb2, read_message

FOLDER = Path(__file__).parents[1] / "golden" / "upgrade"


def case_names(tool: str) -> list[str]:
    """The cases of one tool."""
    cases = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/case.json"))}
    return [name for name, case in cases.items() if case["tool"] == tool]


def run_tool(tool: str, source: Path, target: Path) -> int:
    """The tool on two files; returns its exit status."""
    module = import_module(f"caffe_compat.tools.{tool}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return int(module.run(parser.parse_args([str(source), str(target)])))


def check_case(name: str, folder: Path) -> None:
    """Run the case's tool into ``folder`` and compare with the file that Caffe wrote."""
    case = json.loads((FOLDER / name / "case.json").read_text())
    kind = caffe_pb2.SolverParameter if "solver" in case["tool"] else caffe_pb2.NetParameter
    form: Literal["binary", "text"] = "binary" if "binary" in case["tool"] else "text"
    assert run_tool(case["tool"], FOLDER / name / case["input"], folder / "out") == 0
    expected = read_message(FOLDER / name / case["expected"], kind(), form)
    assert str(read_message(folder / "out", kind(), form)) == str(expected)
