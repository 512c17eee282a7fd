"""The scripts run as files from anywhere, and as modules; neither needs an installed package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = {"run_paper": "--dry-run", "run_folder": "--out", "train_one": "--device", "prepare_imagenet": "--estimate"}


def help_of(*command: str, cwd: Path, python_path: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": python_path}
    return subprocess.run(
        [sys.executable, *command, "--help"], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("name", ["run_paper", "run_folder", "train_one"])
def test_as_a_file_and_as_a_module(name: str, tmp_path: Path) -> None:
    as_file = help_of(str(ROOT / "reproduce" / f"{name}.py"), cwd=tmp_path)
    as_module = help_of("-m", f"reproduce.{name}", cwd=tmp_path, python_path=str(ROOT))
    assert SCRIPTS[name] in as_file
    assert as_file.splitlines()[1:] == as_module.splitlines()[1:]


def test_only_one_file_changes_the_path() -> None:
    files = [path for path in (ROOT / "reproduce").rglob("*.py") if "sys.path" in path.read_text()]
    assert [path.name for path in files if path.name != "local_processes.py"] == ["from_checkout.py"]
