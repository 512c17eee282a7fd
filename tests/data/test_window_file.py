from pathlib import Path

import numpy as np
import pytest

from caffe_compat.data.window_file import IMAGE, LABEL, X1, Y2, WindowFile
from caffe_compat.errors import DataError

TWO_IMAGES = """# 0
a.png
3
30
40
3
2 0.9 5 6 20 21
1 0.1 0 0 39 29
1 0.55 3 3 9 9

# 1
b c.png
3
10
10
2
4 0.5 1 1 2 2
3 0.6 0 1 2 3
"""


def read(folder: Path, text: str, foreground: float = 0.6, background: float = 0.5) -> WindowFile:
    (folder / "windows.txt").write_text(text)
    return WindowFile(folder / "windows.txt", foreground, background)


def test_windows_by_their_overlap(tmp_path: Path) -> None:
    """At least 0.6 is foreground, less than 0.5 background and then of class 0; between them nothing."""
    windows = read(tmp_path, TWO_IMAGES)
    assert windows.paths == ["a.png", "b c.png"]
    assert windows.channels == 3
    assert windows.foreground.tolist() == [[0, 2, 5, 6, 20, 21], [1, 3, 0, 1, 2, 3]]
    assert windows.background.tolist() == [[0, 0, 0, 0, 39, 29]]
    assert windows.foreground[:, IMAGE].tolist() == [0, 1]
    assert windows.foreground[0, X1 : Y2 + 1].tolist() == [5, 6, 20, 21]
    assert windows.background[0, LABEL] == 0


def test_overlaps_are_compared_in_float32(tmp_path: Path) -> None:
    """0.1 as float32 is above 0.1; Caffe holds both in float32."""
    windows = read(tmp_path, "# 0\na\n3\n9\n9\n1\n1 0.1 0 0 1 1\n", foreground=0.1)
    assert len(windows.foreground) == 1
    assert windows.foreground.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "windows.txt: is empty"),
        ("# 1\nimage.png\n", "windows.txt:1: image 0: expected `# 0`"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 20\n", "lines of 6 numbers"),
        ("# 0\nimage.png\n3\n30\n40\n1\n0 0.9 5 5 20 20\n", "a foreground window has class 0; expected 1 up"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 nan 20\n", "windows.txt:1: image 0: expected .* lines of 6 numbers"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 1e300 20\n", "lines of 6 numbers"),
        (f"# 0\nimage.png\n{'9' * 5000}\n", "windows.txt:1: image 0: expected"),
        (TWO_IMAGES + "# 3\n", "windows.txt:19: image 2: expected `# 2`"),
    ],
)
def test_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: cannot be read: No such file or directory; expected a window file"):
        WindowFile(tmp_path / "absent", 0.5, 0.5)


def test_a_file_of_other_bytes(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes(b"# 0\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"windows.txt: cannot be read as a window file: 'utf-8' codec"):
        WindowFile(tmp_path / "windows.txt", 0.5, 0.5)
