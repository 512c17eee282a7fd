"""Lists of image files and the files of their labels (or annotations): ``image label`` in each line."""

import os
from pathlib import Path

from caffe_compat.data.identity import digest
from caffe_compat.errors import DataError, seen_from


class PairList:
    """The lines of a file, each of two names (or one) without blanks."""

    def __init__(self, path: str | os.PathLike[str], *, need_second: bool = True, second: str = "label") -> None:
        """``need_second``: whether each line must have a second name, and ``second`` what messages call it.

        DataError when the file is missing, empty or a line lacks a name.
        """
        self.path = Path(path)
        expected = f"lines of `image {second}`" if need_second else "lines of `image`"
        try:
            text = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; expected {expected}{seen_from(path)}") from None
        self._pairs: list[tuple[str, str]] = []
        for number, line in enumerate(text.splitlines(), 1):
            first, second, *_ = [*map(os.fsdecode, line.split()), "", ""]
            if not first or (need_second and not second):
                raise DataError(f"{path}:{number}: has {'one name' if first else 'no name'}; expected {expected}")
            self._pairs.append((first, second))
        if not self._pairs:
            raise DataError(f"{path}: is empty; expected {expected}")
        self._identity = f"{len(self)} images ({digest([text])})"

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> tuple[str, str]:
        return self._pairs[number]

    def identity(self) -> str:
        """Count and a digest of the lines, to tell this list from others."""
        return self._identity
