"""Scripts that say ``import caffe``."""

import subprocess
import sys
from pathlib import Path

LAYER = """
import caffe

class Seven(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(2)
    def forward(self, bottom, top): top[0].data[...] = 7
"""
SCRIPT = """
import sys
import caffe
from helper import MODEL

open("net.prototxt", "w").write(MODEL)
net = caffe.Net("net.prototxt", caffe.TEST)
print(__name__, sys.argv[1:], net.forward()["x"].tolist())
"""
MODEL = "MODEL = \"layer { name: 'x' type: 'Python' top: 'x' python_param { module: 'seven' layer: 'Seven' } }\""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "caffe_compat.pycaffe", *arguments]
    env_path = str(Path(__file__).parents[2])
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": env_path, "PATH": ""}
    )


def test_a_script_and_a_module(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name, text in (("seven", LAYER), ("script", SCRIPT), ("helper", MODEL)):
        (tmp_path / "lib" / f"{name}.py").write_text(text)
    done = run(tmp_path, "lib/script.py", "-m", "--flag")
    assert done.stdout == "__main__ ['-m', '--flag'] [7.0, 7.0]\n", done.stderr
    done = run(tmp_path / "lib", "-m", "script", "a")
    assert done.stdout == "__main__ ['a'] [7.0, 7.0]\n", done.stderr


def test_calls_that_are_no_use(tmp_path: Path) -> None:
    for arguments in ([], ["--help"]):
        done = run(tmp_path, *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: python -m caffe_compat.pycaffe script.py")
    done = run(tmp_path, "gone.py")
    assert done.returncode == 2
    assert done.stderr.startswith(f"gone.py: no such script (working directory {tmp_path})")
