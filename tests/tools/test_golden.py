"""The comparison with Caffe itself: that it finds cases, and differences where there are some."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat.tools._golden import (
    DATA_TOLERANCE,
    GRADIENT_TOLERANCE,
    case_kind,
    check_case,
    find_cases,
    layer_type,
    needs_cpu,
    relative_error,
    run_case,
)

NET = """force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 3 } }
"""


@pytest.mark.parametrize(
    ("ours", "theirs", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.1], [1.0, 2.0], 0.1 / 2),
        ([1.1, -4.0], [1.0, -4.0], 0.1 / 4),  # relative to the largest, not to its own
        ([1e-7], [0.0], 0.1),  # the smallest scale is 1e-6
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [1.0, 1.0], np.inf),
        ([np.inf, 1.0], [3.4e38, 1.0], 0.0),  # -FLT_MAX and such by sign only
        ([-np.inf, 1.0], [np.inf, 1.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([[1.0]], [1.0], np.inf),
        ([], [], 0.0),
        ([np.inf], [np.inf], 0.0),
    ],
)
def test_relative_error(ours: list[float], theirs: list[float], error: float) -> None:
    assert relative_error(np.array(ours), np.array(theirs)) == pytest.approx(error)


def make_case(folder: Path, meta: dict[str, Any], expected: dict[str, np.ndarray], net: str = NET) -> Path:
    """A case of one net with bottom [1, 2] and top diff [1, 10]."""
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps({"phase": "TRAIN", **meta}))
    (folder / "net.prototxt").write_text(net)
    inputs: dict[str, Any] = {"blob:x": np.array([1, 2], np.float32), "diff:y": np.array([1, 10], np.float32)}
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "expected.npz", **expected)  # type: ignore[arg-type]
    return folder


def test_find_cases(tmp_path: Path) -> None:
    for place, meta in (("a/one", {}), ("a/two", {"kind": "solver"}), ("b/three", {"kind": "net"})):
        make_case(tmp_path / place, meta, {})
    (tmp_path / "a" / "no_case").mkdir()
    assert find_cases(tmp_path, ("net",)) == [tmp_path / "a/one", tmp_path / "b/three"]
    assert find_cases(tmp_path, ("net", "solver")) == [tmp_path / name for name in ("a/one", "a/two", "b/three")]
    assert find_cases(tmp_path, ()) == []


def test_what_a_case_says_of_itself(tmp_path: Path) -> None:
    net = make_case(tmp_path / "net", {"layer": "Power"}, {})
    assert (case_kind(net), layer_type(net), needs_cpu(net)) == ("net", "Power", False)
    filler = make_case(tmp_path / "filler", {"kind": "filler", "seed": 3}, {})
    assert (case_kind(filler), layer_type(filler), needs_cpu(filler)) == ("filler", "filler", True)


def test_a_case_that_agrees(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", {}, {"blob:y": np.array([3, 6], np.float32)})
    assert run_case(case)["blob:y"].tolist() == [3, 6]
    (found,) = check_case(case)
    assert (found.key, found.error, found.tolerance, found.passed) == ("blob:y", 0.0, DATA_TOLERANCE, True)


def test_gradients_where_the_case_asks_for_them(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", {"backward": True}, {"grad:x": np.array([3, 30], np.float32)})
    (found,) = check_case(case)
    assert (found.error, found.tolerance) == (0.0, GRADIENT_TOLERANCE)


def test_differences_are_found(tmp_path: Path) -> None:
    expected = {
        "blob:y": np.array([3, 6.012], np.float32),
        "blob:x": np.array([1, 2, 3], np.float32),
        "blob:gone": np.zeros(1, np.float32),
        "grad:gone": np.zeros(1, np.float32),
    }
    found = {d.key: d for d in check_case(make_case(tmp_path / "case", {}, expected))}
    assert found["blob:y"].error == pytest.approx(0.012 / 6.012, rel=1e-3)
    assert not any(d.passed for d in found.values())
    assert found["blob:x"].error == found["blob:gone"].error == np.inf
    assert found["grad:gone"].tolerance == GRADIENT_TOLERANCE


def test_a_cases_own_tolerance(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", {"rtol": 0.01}, {"blob:y": np.array([3, 6.012], np.float32)})
    assert [d.passed for d in check_case(case)] == [True]


@pytest.mark.parametrize(("net", "passed"), [(NET.replace("Power", "Rubbish"), True), (NET, False)])
def test_a_net_that_caffe_refuses_must_be_refused(tmp_path: Path, net: str, passed: bool) -> None:
    (found,) = check_case(make_case(tmp_path / "case", {"error": "unknown type"}, {}, net))
    assert (found.key, found.passed) == ("refused", passed)
