"""Runs a script of examples/ as a user does, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]


def run_example(name: str, out: Path) -> str:
    """What the script prints; fails where it fails, or leaves no picture, or a blank one."""
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=out)
    assert run.returncode == 0, run.stderr
    check_picture(out / f"{name}.png")
    return run.stdout


def check_picture(path: Path) -> None:
    """At least 200 pixels wide and high, and something on it that is no single line."""
    picture = cv2.imread(str(path))
    assert picture is not None, f"{path} is missing or no picture"
    assert min(picture.shape[:2]) >= 200
    gray = picture.mean(axis=2)
    assert (gray != np.median(gray)).mean() > 0.02


def number(pattern: str, text: str) -> float:
    """The number that the pattern's group finds, once, in the text."""
    (found,) = re.findall(pattern, text)
    return float(found)
