"""examples/cascade.py: digits of all sizes are found where they are, and read right."""

import re
from pathlib import Path

import pytest

from tests.examples.run_example import number, run_example

# Seeded: 42 of 42 digits, mean overlap 0.78, 1 box beside; other processors round otherwise.
RIGHT, OVERLAP, BESIDE = 36, 0.65, 8


@pytest.mark.slow
def test_digits_are_found(tmp_path: Path) -> None:
    said = run_example("cascade", tmp_path)
    stages = re.findall(r"image (\d): (\d+) boxes after the first net, (\d+) after the second", said)
    assert [int(image) for image, _, _ in stages] == list(range(6))
    assert all(int(first) > int(second) > 0 for _, first, second in stages)
    right = int(number(r"(\d+) of 42 digits found and read right", said))
    assert RIGHT <= right <= 42
    assert OVERLAP <= number(r"mean overlap (\S+)", said) <= 1
    beside = int(number(r"(\d+) boxes beside", said))
    assert beside <= BESIDE
    assert right + beside == sum(int(second) for _, _, second in stages)
