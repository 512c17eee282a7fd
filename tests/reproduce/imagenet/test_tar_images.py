"""Images in tar files, and in tar files within one."""

import io
import tarfile
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.imagenet.tar_images import TarImages


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def inner(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in names.items():
            add(archive, name, data)
    return buffer.getvalue()


def test_members_have_the_names_of_unpacked_folders(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as outer:
        add(outer, "./plain.JPEG", b"plain")
        add(outer, "n01440764.tar", inner({"n01440764_1.JPEG": b"one", "n01440764_2.JPEG": b"second"}))
    images = TarImages(tmp_path / "all.tar")
    assert images.names() == ["plain.JPEG", "n01440764/n01440764_1.JPEG", "n01440764/n01440764_2.JPEG"]
    assert [images.read(name) for name in images.names()] == [b"plain", b"one", b"second"]
    with pytest.raises(DataError, match=r"all\.tar: has no member other\.JPEG"):
        images.read("other.JPEG")


def test_no_tar_file(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar file")
    with pytest.raises(DataError, match=r"text\.tar: cannot be read as a tar file"):
        TarImages(tmp_path / "text.tar")
