"""Tuning by whole steps, with a made-up clock in place of a GPU."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from caffe_compat.ops import ConvWindow, conv_choice
from caffe_compat.ops.conv_paths import PATHS
from caffe_compat.solver.tune import PathErrors, tune

WINDOW = ConvWindow((1, 1), (1, 1), (1, 1))
SIZES = {"a": ((8, 16, 9, 9), (32, 16, 3, 3)), "b": ((8, 32, 9, 9), (16, 32, 5, 5))}
KEYS = {
    name: conv_choice.table_key("output", "tf32", channels_last=True, input=x, weight=w, window=WINDOW)
    for name, (x, w) in SIZES.items()
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv(conv_choice.TABLE_VARIABLE, str(tmp_path / "table.json"))
    (tmp_path / "table.json").write_text('{"devices": {}}')
    conv_choice.forget_choices()
    yield
    conv_choice.forget_choices()


def clock(costs: dict[tuple[str, str], float]) -> Callable[[], float]:
    """A step that asks for both convolutions and takes what its paths cost together."""

    def measure() -> float:
        total = 1.0
        for name, (x, w) in SIZES.items():
            path = conv_choice.choose("GPU", "output", "tf32", channels_last=True, input=x, weight=w, window=WINDOW)
            total += costs[name, path]
        return total

    return measure


def test_what_makes_the_step_faster_is_kept_and_nothing_else() -> None:
    costs = {("a", "cudnn"): 2.0, ("a", "ours_nhwc"): 1.0, ("b", "cudnn"): 1.0, ("b", "ours_nhwc"): 0.999}
    lines: list[str] = []
    found = tune(clock(costs), lines.append)
    assert found.choices == {KEYS["a"]: "ours_nhwc"}  # 0.03 % may be noise
    assert (found.before_ms, found.after_ms) == (4.0, 3.0)
    assert lines[0] == "4.000 ms a step by table or rule of thumb"
    assert lines[1] == f"3.000 ms with ours_nhwc for {KEYS['a']}"


def test_it_is_never_slower_than_not_choosing() -> None:
    """A choice that seemed to gain, by noise, is dropped when it does not do so again."""
    costs = {(name, path): 1.0 for name in SIZES for path in ("cudnn", "ours_nhwc")}
    steady, calls = clock(costs), iter([0.0, -0.5, 0.0, 0.1, 0.0])
    found = tune(lambda: steady() + next(calls), lambda line: None)
    assert found.choices == {}
    assert found.after_ms == found.before_ms == 3.0


def test_a_wrong_path_is_not_tried() -> None:
    costs = {(name, path): 1.0 for name in SIZES for path in ("cudnn", "ours_nhwc")} | {("a", "ours_nhwc"): 0.1}
    lines: list[str] = []
    found = tune(clock(costs), lines.append, lambda key, path: 0.5 if key == KEYS["a"] else 1e-3)
    assert found.choices == {}
    assert f"ours_nhwc is off by 5.0e-01 of the largest value for {KEYS['a']}: not taken" in lines


@pytest.mark.parametrize("operation", conv_choice.OPERATIONS)
def test_errors_of_paths(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = PathErrors(torch.device("cpu"))
    key = f"{operation} fp32 NHWC 8x16x9x7 32x8x3x3 s2x1 p1x1 d1x1 g2"
    for path in ("cudnn", "cudnn_split", "split_tf32", "caffe"):
        assert errors(key, path) < 2e-6
    wrong = PATHS["caffe"]._replace(
        output=lambda *a: PATHS["caffe"].output(*a) * 1.5,
        input_grad=lambda *a: PATHS["caffe"].input_grad(*a) * 1.5,
        weight_grad=lambda *a: PATHS["caffe"].weight_grad(*a) * 1.5,
    )
    monkeypatch.setitem(PATHS, "cudnn", wrong)
    assert errors(key, "cudnn") == pytest.approx(0.5, abs=1e-5)


def test_choices_are_kept_for_their_gpu_and_versions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    conv_choice.write_choices("GPU", {KEYS["a"]: "ours_nhwc"}, {"step_ms": 3.0})
    conv_choice.write_choices("GPU", {KEYS["b"]: "ours_nhwc"}, {"step_ms": 2.0})
    conv_choice.write_choices("other GPU", {}, {})
    assert conv_choice.read_table() == {"GPU": {KEYS["a"]: "ours_nhwc", KEYS["b"]: "ours_nhwc"}, "other GPU": {}}
    assert json.loads(conv_choice.table_path().read_text())["devices"]["GPU"][KEYS["a"]]["step_ms"] == 3.0
    monkeypatch.setattr(torch, "__version__", "9.9")
    monkeypatch.setattr(logging.getLogger("caffe_compat"), "propagate", True)
    conv_choice.forget_choices()
    assert conv_choice.read_table() == {}
    assert "this is torch 9.9, cuDNN" in caplog.text
    conv_choice.write_choices("GPU", {KEYS["b"]: "cudnn"}, {})
    assert conv_choice.read_table() == {"GPU": {KEYS["b"]: "cudnn"}}


@pytest.mark.parametrize(
    ("key", "paths"),
    [
        ("output bf16 NHWC 8x48x9x9 32x48x5x5 s1x1 p2x2 d1x1 g1", ["cudnn", "ours_nhwc"]),
        ("output bf16 NHWC 8x44x9x9 32x44x5x5 s1x1 p2x2 d1x1 g1", ["cudnn"]),
        (
            "input_grad fp32 NHWC 8x48x9x9 32x24x3x3 s1x1 p1x1 d1x1 g2",
            ["cudnn", "cudnn_split", "ours_nhwc", "split_tf32"],
        ),
        ("output fp32 NHWC 8x48x9x9 32x48x1x1 s1x1 p0x0 d1x1 g1", ["cudnn", "ours_nhwc"]),
        ("output fp64 NHWC 8x48x9x9 32x48x3x3 s1x1 p0x0 d1x1 g1", ["cudnn"]),
    ],
)
def test_alternatives(key: str, paths: list[str]) -> None:
    assert conv_choice.alternatives(key) == paths
