import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.errors import CaffeCompatError
from caffe_compat.tools import fidelity
from caffe_compat.tools._golden import HUGE, relative_error

CASE = Path(__file__).parent.parent / "golden" / "layers" / "absval_plain"


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A folder with one good case."""
    shutil.copytree(CASE, tmp_path / "layers" / "good")
    return tmp_path


def report(cases: Path) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    fidelity.add_arguments(parser)
    out = cases / "report.md"
    status = fidelity.run(parser.parse_args(["--cases", str(cases), "--out", str(out), "--device", "cpu"]))
    return status, out.read_text()


def test_all_pass(cases: Path) -> None:
    status, text = report(cases)
    assert status == 0
    assert "1 of 1 cases pass" in text
    assert "| AbsVal | 1 | 1 | 0.0e+00 | 0.0e+00 |" in text
    assert text.endswith("None.\n")


def test_a_wrong_number_is_named(cases: Path) -> None:
    bad = shutil.copytree(CASE, cases / "layers" / "bad")
    expected = dict(np.load(bad / "expected.npz"))
    expected["blob:y"] = expected["blob:y"] * 1.01
    np.savez(bad / "expected.npz", **expected)
    status, text = report(cases)
    assert status == 1
    assert "| AbsVal | 2 | 1 | 9.9e-03 |" in text
    assert "- layers/bad (cpu): blob:y: error 9.9e-03, limit 1e-04" in text


def test_an_error_is_named(cases: Path) -> None:
    bad = shutil.copytree(CASE, cases / "layers" / "bad")
    prototxt = bad / "net.prototxt"
    prototxt.write_text(prototxt.read_text().replace('"AbsVal"', '"AbsValue"'))
    status, text = report(cases)
    assert status == 1
    assert "AbsValue" in text
    assert "| AbsVal | 2 | 1 | inf | inf |" in text


def test_a_net_to_refuse(cases: Path) -> None:
    case = cases / "layers" / "good"
    (case / "case.json").write_text(json.dumps({"layer": "AbsVal", "phase": "TEST", "error": True}))
    status, text = report(cases)
    assert status == 1
    assert "refused: error inf" in text
    (case / "net.prototxt").write_text('layer { name: "a" type: "AbsVal" bottom: "x" top: "x" }')
    assert report(cases)[0] == 0


def test_no_cases(tmp_path: Path) -> None:
    with pytest.raises(CaffeCompatError, match="no golden cases"):
        report(tmp_path)


@pytest.mark.parametrize(
    ("ours", "theirs", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0, 2.1], [1.0, 2.0], 0.05),
        ([np.inf, 1.0], [HUGE, 1.0], 0),
        ([-np.inf, 1.0], [np.inf, 1.0], np.inf),
        ([np.nan, 1.0], [np.nan, 1.0], 0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([], [], 0),
        ([1e-7], [0.0], 0.1),
    ],
)
def test_relative_error(ours: list[float], theirs: list[float], error: float) -> None:
    assert relative_error(np.array(ours), np.array(theirs)) == pytest.approx(error)


def test_the_table_as_json(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = shutil.copytree(CASE, cases / "layers" / "bad")
    (bad / "net.prototxt").write_text((bad / "net.prototxt").read_text().replace('"AbsVal"', '"AbsValue"'))
    assert main(["fidelity", "--cases", str(cases), "--device", "cpu", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    row = {"device": "cpu", "layer": "AbsVal", "cases": 2, "passed": 1, "data": None, "gradients": None}
    assert said["layers"] == [row]
    (failure,) = said["failures"]
    assert (failure["case"], failure["device"]) == ("layers/bad", "cpu")
    assert "AbsValue" in failure["reason"]
    shutil.rmtree(bad)
    assert main(["fidelity", "--cases", str(cases), "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"layers": [row | {"cases": 1, "data": 0.0, "gradients": 0.0}], "failures": []}
