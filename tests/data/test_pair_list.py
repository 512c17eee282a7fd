from pathlib import Path

import pytest

from caffe_compat.data.pair_list import PairList
from caffe_compat.errors import DataError


def written(path: Path, text: str, *, need_second: bool = True) -> PairList:
    (path / "list.txt").write_text(text)
    return PairList(path / "list.txt", need_second=need_second)


def test_pairs(tmp_path: Path) -> None:
    pairs = written(tmp_path, "a.jpg  a.png\nb.jpg b.png more\n")
    assert [pairs[i] for i in range(len(pairs))] == [("a.jpg", "a.png"), ("b.jpg", "b.png")]
    assert pairs.identity() != written(tmp_path, "a.jpg b.png\nb.jpg a.png\n").identity()
    assert written(tmp_path, "a.jpg\n", need_second=False)[0] == ("a.jpg", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt: is empty; expected lines of `image label`"),
        ("a b\n\nc d\n", "list.txt:2: has no name"),
        ("a b\nc\n", "list.txt:2: has one name"),
    ],
)
def test_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path, text)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        PairList(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="expected lines of `image annotation`"):
        PairList(tmp_path / "gone.txt", second="annotation")
