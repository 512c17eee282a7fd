"""Lists of the paper's subsets."""

import hashlib

import pytest

from caffe_compat.errors import DataError
from reproduce.imagenet.lists import (
    LIST_MD5,
    compare_list,
    list_md5,
    paper_subsets,
    parse_list_line,
    reduced_list,
    subset_list,
)

LINES = ["a 3", "b 1", "c d 3", "e 7", "f 1"]


def test_lists() -> None:
    assert subset_list(LINES, [7, 3]) == ["a 0", "c d 0", "e 1"]
    assert reduced_list(LINES, 1) == ["a 3", "b 1", "e 7"]
    assert parse_list_line("c d 3") == ("c d", 3)
    with pytest.raises(DataError, match=r"'x': expected `name label`"):
        parse_list_line("x")


def test_subsets_of_a_small_set_have_no_natural_half() -> None:
    train = [f"{label}/{i} {label}" for label in range(6) for i in range(3)]
    subsets = {name: (lines, valid) for name, lines, valid in paper_subsets(train, train[::3], 6)}
    assert [name for name in subsets if name.startswith("half")] == [f"half{s}{half}" for s in "0123" for half in "AB"]
    assert subsets["whole"] == (train, train[::3])
    assert subsets["reduced-0002"] == ([line for line in train if "/2 " not in line], None)
    assert len(subsets["half0A"][0]) == len(subsets["half0B"][0]) == 9


def test_authors_lists_are_all_known() -> None:
    train = [f"n{i:08d}/{j}.JPEG {i}" for i in range(1000) for j in range(2)]
    names = [name for name, _, _ in paper_subsets(train, train)]
    assert names == list(LIST_MD5)
    assert list_md5(["a 0", "b 1"]) == hashlib.md5(b"a 0\nb 1\n").hexdigest()


def test_a_list_is_held_against_the_authors() -> None:
    found = hashlib.md5(b"a 3\n").hexdigest()
    assert compare_list("half0A", "valid", ["a 3"]) == (f"MD5 {found}, the authors' is {LIST_MD5['half0A'][1]}", False)
    assert compare_list("half0A", "train", ["a 3"])[0].endswith(str(LIST_MD5["half0A"][0]))


def test_a_list_of_the_authors_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIST_MD5, "half0A", (hashlib.md5(b"a 3\n").hexdigest(), None))
    assert compare_list("half0A", "train", ["a 3"]) == ("equals the authors' list", True)
