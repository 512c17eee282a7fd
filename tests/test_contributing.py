"""CONTRIBUTING's table names files that exist, and every kind of thing that grows is one file of what it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line.split("|")[1:4]
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "---" not in line
]
PLACE = re.compile(r"`([\w./<>*-]+(?:/|\.(?:py|h|txt|cpp|cuh|cu)))`")


def places(cell: str) -> list[str]:
    """The files and folders that a cell names; ``<rule>`` stands for any name."""
    return [re.sub(r"<\w+>", "*", place) for place in PLACE.findall(cell)]


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0].strip())
def test_the_table_names_what_is_there(row: list[str]) -> None:
    _, touched, tested = row
    assert places(touched), "name the file to touch"
    for place in [*places(touched), *places(tested)]:
        assert any(ROOT.glob(place.rstrip("/"))), f"{place} is nowhere"


@pytest.mark.parametrize(
    ("mark", "places"),
    [
        # torchvision_blocks.py has a layer type of its own, as a user's script may.
        (
            r"^@register\(",
            ["caffe_compat/layers/*.py", "caffe_compat/data/layers/*.py", "reproduce/torchvision_blocks.py"],
        ),
        (r"^@register_rule\(", ["caffe_compat/solver/rules/*.py"]),
        (r"^@_policy\(", ["caffe_compat/solver/schedule.py"]),
        (r"^DATA_SET\b", ["reproduce/datasets/*.py"]),
        (r"^class \w+\(.*Event\)", ["caffe_compat/solver/events.py"]),
        (r"^class \w+\(Chain\)", ["caffe_compat/net/chains.py"]),
    ],
)
def test_things_that_grow_stand_where_the_table_says(mark: str, places: list[str]) -> None:
    expected = {path for place in places for path in ROOT.glob(place)}
    files = [path for folder in ("caffe_compat", "reproduce") for path in (ROOT / folder).rglob("*.py")]
    marked = {path for path in files if re.search(mark, path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert marked
    assert not marked - expected
