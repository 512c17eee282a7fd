"""Window files: which regions of which images show an object, for WindowData.

Per image: ``# index``, path, channels, height, width, number of windows, and for each window a
line ``class overlap x1 y1 x2 y2``.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from caffe_compat.errors import DataError, reading

_INT_MAX = 2**31 - 1

#: columns of a window: image number, class, x1, y1, x2, y2 (pixels, both ends included)
IMAGE, LABEL, X1, Y1, X2, Y2 = range(6)


class WindowFile:
    """``paths`` and ``channels`` of the images; ``foreground`` and ``background`` windows, int64 (M, 6)."""

    def __init__(self, path: str | os.PathLike[str], foreground_overlap: float, background_overlap: float) -> None:
        """Windows with an overlap of at least the one are foreground, below the other background
        (class 0); those between are left out.

        Raises DataError, with the line, for a file that is missing, empty or malformed.
        """
        self.path = Path(path)
        self.paths: list[str] = []
        self.channels = 0
        parts: dict[bool, list[np.ndarray]] = {True: [], False: []}
        with reading(self.path, "a window file"), open(self.path) as file:
            lines = ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())
            for number, line in lines:
                windows, overlap = self._read_image(number, line, lines)
                above = overlap >= np.float32(foreground_overlap)
                below = ~above & (overlap < np.float32(background_overlap))
                parts[True].append(windows[above])
                parts[False].append(windows[below])
        if not self.paths:
            raise DataError(f"{self.path}: is empty; expected a window file")
        self.foreground = np.concatenate(parts[True])
        self.background = np.concatenate(parts[False])
        self.background[:, LABEL] = 0
        if len(self.foreground) and self.foreground[:, LABEL].min() < 1:
            raise DataError(
                f"{self.path}: a foreground window has class {self.foreground[:, LABEL].min()}; expected 1 up"
            )

    def _read_image(self, number: int, line: str, lines: Iterator[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
        try:
            mark, index = line.split()
            if mark != "#" or int(index) != len(self.paths):
                raise ValueError(line)
            _, path = next(lines)
            sizes = [int(next(lines)[1]) for _ in range(4)]
            rows = [next(lines)[1].split() for _ in range(sizes[3])]
            table = np.array(rows, np.float64).reshape(sizes[3], 6)
            if not (np.abs(table) < _INT_MAX).all():
                raise ValueError(rows)
        except (ValueError, StopIteration):
            raise DataError(
                f"{self.path}:{number}: image {len(self.paths)}: expected `# {len(self.paths)}`, path, channels, "
                "height, width, number of windows, and lines of 6 numbers"
            ) from None
        self.paths.append(path)
        self.channels = sizes[0]
        windows = table[:, [0, 0, 2, 3, 4, 5]].astype(np.int64)
        windows[:, IMAGE] = len(self.paths) - 1
        return windows, table[:, 1].astype(np.float32)
