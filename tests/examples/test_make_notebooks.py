"""examples/*.ipynb follow the scripts, and run."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.run_example import ROOT, check_picture, number

MAKER = runpy.run_path(str(ROOT / "examples" / "make_notebooks.py"))
NAMES, cells_of, notebook = MAKER["NAMES"], MAKER["cells_of"], MAKER["notebook"]

# IPython's display is not here: a picture is what Image is called with.
DISPLAY = """
import sys, types
ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
ipython.version_info, display.Image = (9, 0), lambda filename: filename
sys.modules |= {"IPython": ipython, "IPython.display": display}
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_script_makes(name: str) -> None:
    """Else: make notebooks."""
    assert (ROOT / "examples" / f"{name}.ipynb").read_text() == notebook(name)


def test_each_script_with_a_picture_has_one() -> None:
    scripts = (ROOT / "examples").glob("*.py")
    assert {path.stem for path in scripts if "def main()" in path.read_text()} == {*NAMES, "make_notebooks"}


SCRIPT = '''"""A title.

python examples/small.py --out examples_out

More.
"""

from digits import CLASSES, folder_argument

SHOWN = 6


def double(x: int) -> int:
    return 2 * x


def main() -> None:
    out = folder_argument(__doc__)
    first = 1

    # Why,
    # and how.
    if first:
        second = double(first)

        print(second)
    print(f"picture: {out / 'small.png'}")


if __name__ == "__main__":
    main()
'''


def test_how_a_script_is_cut() -> None:
    assert list(cells_of(SCRIPT, "small"))[2:] == [
        ("code", "from digits import CLASSES\n\nSHOWN = 6"),
        ("code", "def double(x: int) -> int:\n    return 2 * x"),
        ("code", "first = 1"),
        ("markdown", "Why,\nand how."),
        (
            "code",
            'if first:\n    second = double(first)\n\n    print(second)\nImage(filename=str(out / "small.png"))',
        ),
    ]
    assert next(cells_of(SCRIPT, "small"))[1].startswith("# A title.\n\nMore.\n")


@pytest.mark.slow
def test_a_notebook_runs_from_its_folder(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "examples" / "classify.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DISPLAY + code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert number(r"200 images .*: accuracy (\S+)", run.stdout) >= 0.93  # as test_classify.py
    check_picture(tmp_path / "examples_out" / "classify.png")
