"""Every top of every pass of Caffe 1.0's data layers, equal to the bit (see tests/golden/data)."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.data import libc_random
from caffe_compat.net import Net

FOLDER = Path(__file__).parent.parent / "golden" / "data"
CASES = sorted(path.parent for path in FOLDER.glob("*/case.json"))
#: JPEG decoders differ by a step of 1 in 255 here and there; every other case has Caffe's own bits.
JPEG_TOLERANCE = 1e-2
WITH_JPEG = ("encoded_jpg", "imagedata_gray", "imagedata_resize", "imagedata_shuffle")


def test_all_cases_are_here() -> None:
    assert len(CASES) >= 28


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_equals_caffe(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.name == "leveldb":
        pytest.importorskip("plyvel")
    meta = json.loads((case / "case.json").read_text())
    expected = dict(np.load(case / "expected.npz"))
    monkeypatch.chdir(shutil.copytree(case, tmp_path / "case"))
    # Each case was measured in a process of its own.
    with random.scope(meta.get("seed", 0)), libc_random.scope():
        equals_caffe(expected, meta, JPEG_TOLERANCE if case.name in WITH_JPEG else 0)


def equals_caffe(expected: dict[str, np.ndarray], meta: dict[str, Any], tolerance: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fields without effect are tested elsewhere
        net = Net("net.prototxt", phase=meta["phase"])
    try:
        for number in range(meta["passes"]):
            for name, value in net.next_batch().items():
                theirs = expected.pop(f"pass{number}:{name}")
                assert value.shape == theirs.shape
                assert np.abs(value.numpy() - theirs).max() <= tolerance * np.abs(theirs).max()
    finally:
        net.close()
    assert not expected
