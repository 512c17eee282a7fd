"""More than one pass against Caffe 1.0, through pycaffe: weight files of every age, seeded fillers."""

from pathlib import Path

import pytest

from caffe_compat.tools._golden import check_case, find_cases

CASES = find_cases(Path(__file__).parent / "golden", ("filler", "io"))


def test_all_cases_are_here() -> None:
    assert len(CASES) >= 24


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_equals_caffe(case: Path) -> None:
    differences = check_case(case)
    assert differences
    assert not [d for d in differences if not d.passed]
