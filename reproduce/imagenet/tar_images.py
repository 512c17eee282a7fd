"""Images read straight from tar files, also from tar files within one, by name."""

import os
import tarfile
from array import array

from caffe_compat.errors import DataError, reason, refusal


class TarImages:
    """``read(name)`` gives a member's bytes; safe in several threads.

    Members of an inner ``n01440764.tar`` are called ``n01440764/<member>``, so that ImageNet's
    tar of tars has the names of the unpacked folders.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Reads all members' headers.  Raises DataError when it is no whole tar file."""
        self.path = os.fspath(path)
        self._place: dict[str, int] = {}  # name -> index into the two arrays
        self._offsets, self._sizes = array("q"), array("q")
        try:
            self._handle = os.open(self.path, os.O_RDONLY)
            with tarfile.open(self.path, "r:") as outer:
                for member in outer:
                    if member.name.endswith(".tar"):
                        self._add_inner(outer, member)
                    elif member.isfile():
                        self._add(member.name.removeprefix("./"), member.offset_data, member.size)
        except (OSError, tarfile.TarError) as error:
            why = refusal(error, path) if isinstance(error, OSError) else reason(error)
            raise DataError(f"{self.path}: cannot be read as a tar file: {why}") from None

    def names(self) -> list[str]:
        """All members, in the tar's order."""
        return list(self._place)

    def read(self, name: str) -> bytes:
        """A member's bytes; DataError when there is none."""
        if name not in self._place:
            raise DataError(f"{self.path}: has no member {name}")
        index = self._place[name]
        return os.pread(self._handle, self._sizes[index], self._offsets[index])

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def _add_inner(self, outer: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder = os.path.basename(member.name).removesuffix(".tar")
        with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
            for image in inner:
                if image.isfile():
                    self._add(
                        f"{folder}/{os.path.basename(image.name)}", member.offset_data + image.offset_data, image.size
                    )

    def _add(self, name: str, offset: int, size: int) -> None:
        self._place[name] = len(self._offsets)
        self._offsets.append(offset)
        self._sizes.append(size)
