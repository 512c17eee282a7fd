"""Make a Jupyter notebook, without outputs, of each script here: the scripts are the source, the notebooks follow them.

python examples/make_notebooks.py            # or: make notebooks

A script's docstring and the comments in ``main`` become text, its functions and the steps of ``main`` become cells.
"""

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("classify", "net_surgery", "lenet_netspec", "finetune_torch", "filters", "cascade", "python_data_layer")
BEGIN = """from pathlib import Path

from IPython.display import Image

out = Path("examples_out")  # beside this notebook
out.mkdir(exist_ok=True)"""
Cell = tuple[str, str]  # "markdown" or "code", and its text


def notebook(name: str) -> str:
    """The notebook of the script ``name``.py, as the text of its file."""
    cells: list[dict[str, object]] = []
    for number, (kind, text) in enumerate(cells_of((HERE / f"{name}.py").read_text(), name)):
        cell: dict[str, object] = {
            "cell_type": kind,
            "id": f"{name}-{number}",
            "metadata": {},
            "source": text.splitlines(keepends=True),
        }
        cells.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def cells_of(source: str, name: str) -> Iterator[Cell]:
    """The script's docstring, imports, definitions and the steps of its ``main``."""
    docstring, *statements = ast.parse(source).body
    lines = source.splitlines()
    about = ast.get_docstring(ast.parse(source)) or ""
    title, _, rest = about.partition("\n")
    rest = re.sub(r"^python examples/.*\n?", "", rest.strip(), flags=re.MULTILINE)
    yield "markdown", f"# {title}\n\n{rest}\nMade of `{name}.py` by `make_notebooks.py`.".replace("\n\n\n", "\n\n")
    yield "code", BEGIN
    before, end = "", docstring.end_lineno or 0
    for statement in statements:
        text = "\n".join(lines[end : statement.end_lineno])
        end = statement.end_lineno or end
        if isinstance(statement, ast.FunctionDef) and statement.name == "main":
            yield from _kept(before)
            yield from steps(text.strip("\n"), name)
            return
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield from _kept(before)
            yield "code", text.strip("\n")
            before = ""
        else:
            before += f"{text}\n"


def _kept(text: str) -> Iterator[Cell]:
    """Imports and constants as a cell, where there are some; a notebook has no arguments."""
    if text.strip():
        yield "code", re.sub(r"\bfolder_argument, |, folder_argument\b", "", text).strip("\n")


def steps(main: str, name: str) -> Iterator[Cell]:
    """``main`` cut where its steps are a blank line apart; a comment before a step is its text."""
    body = textwrap.dedent(main.partition("\n")[2])
    body = body.replace("out = folder_argument(__doc__)\n", "")
    body = re.sub(r'\nprint\(f"picture: .*"\)$', f'\nImage(filename=str(out / "{name}.png"))', body)
    for step in re.split(r"\n\n(?=\S)", body):
        comment = re.match(r"(# .*\n)+", step)
        if comment:
            yield "markdown", re.sub(r"^# ", "", comment[0].rstrip("\n"), flags=re.MULTILINE)
        yield "code", step[comment.end() if comment else 0 :].strip("\n")


def main() -> None:
    for name in NAMES:
        (HERE / f"{name}.ipynb").write_text(notebook(name))


if __name__ == "__main__":
    main()
