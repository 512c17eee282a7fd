"""Files are whole or absent."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_compat.atomic_file import atomic_path, check_target, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_target_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path, "a rename must stay on one file system"
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_block_that_raises_leaves_the_target(
    tmp_path: Path, error: type[BaseException], before: bytes | None
) -> None:
    target = tmp_path / "target"
    if before is not None:
        target.write_bytes(before)

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (target.read_bytes() if target.exists() else None) == before
    assert names(tmp_path) == ([] if before is None else ["target"])


def test_an_old_file_is_replaced_and_its_readers_keep_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with open(target, "rb") as reader:
        write_bytes(target, b"new")
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_is_that_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "ours", b"")
        (tmp_path / "plain").touch()
        assert os.umask(umask) == umask, "the mask itself stays"
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")]
    assert modes == [0o666 & ~umask] * 2


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "t", "\u00e9\n")
    assert (tmp_path / "t").read_bytes() == b"\xc3\xa9\n"
    write_text(str(tmp_path / "t"), "")
    assert (tmp_path / "t").read_bytes() == b""


def test_errors_are_the_systems(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "t", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "folder", b"")
    assert names(tmp_path) == ["folder"]


def test_an_error_names_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_bytes(tmp_path / "none" / "t", b"")
    assert error.value.filename == str(tmp_path / "none" / "t")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_leads_to_the_new_content(tmp_path: Path, there: bool) -> None:
    """Also a chain of links, relative ones, one into another folder, and one whose end is yet to be made."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "links").mkdir()
    if there:
        (tmp_path / "disk" / "file").write_bytes(b"old")
    (tmp_path / "links" / "second").symlink_to("../disk/file")
    (tmp_path / "links" / "first").symlink_to(tmp_path / "links" / "second")
    write_bytes(tmp_path / "links" / "first", b"new")
    assert (tmp_path / "links" / "first").is_symlink()
    assert (tmp_path / "links" / "second").is_symlink()
    assert (tmp_path / "disk" / "file").read_bytes() == b"new"
    assert names(tmp_path / "disk") == ["file"]
    assert names(tmp_path / "links") == ["first", "second"]


def test_a_circle_of_links_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write_bytes(tmp_path / "a", b"")
    assert names(tmp_path) == ["a", "b"]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    write_bytes(tmp_path / "null", b"gone")
    assert (tmp_path / "null").readlink() == Path("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert names(tmp_path) == ["null"]
    with pytest.raises(OSError, match="No space left"):
        write_bytes("/dev/full", b"no room")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.parametrize("fails", [False, True])
def test_a_pipe_gets_the_content_and_nothing_from_a_block_that_raises(tmp_path: Path, fails: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    def write() -> None:
        with atomic_path(tmp_path / "pipe") as temporary:
            temporary.write_bytes(b"whole")
            if fails:
                raise ValueError("no")

    try:
        if fails:
            with pytest.raises(ValueError, match="no"):
                write()
        else:
            write()
        assert os.read(reader, 100) == (b"" if fails else b"whole")
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("piped", [False, True])
def test_standard_output_is_written_in_its_order(tmp_path: Path, name: str, piped: bool) -> None:
    """Redirected into a file it keeps what is printed before and after."""
    script = f"from caffe_compat.atomic_file import write_text\nprint('a')\nwrite_text({name!r}, 'b\\n')\nprint('c')"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with open(tmp_path / "out", "wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE if piped else out, check=True
        )
    assert (done.stdout if piped else (tmp_path / "out").read_bytes()) == b"a\nb\nc\n"


def test_an_error_names_the_target_and_not_the_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_bytes(tmp_path / "folder", b"new")
    assert raised.value.filename == str(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]


def test_a_full_disk_names_the_target(tmp_path: Path) -> None:
    """A limit of the file's size stands for it: the error comes while bytes are written, and names no file."""
    script = f"""
import resource
from caffe_compat.atomic_file import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_bytes({str(tmp_path / "target")!r}, bytes(10000))
except OSError as error:
    print(error.filename, error.strerror, sep="|")
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == f"{tmp_path / 'target'}|File too large\n"
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """And nothing that others are writing, or that is not ours."""
    kill = f"""
import os, signal
from caffe_compat.atomic_file import atomic_path
with atomic_path({str(tmp_path / "snap_iter_5.caffemodel")!r}) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", kill], env=environment, check=False)
    (left,) = names(tmp_path)
    assert left.startswith(".snap_iter_5.caffemodel.")
    assert left.endswith(".tmp")
    other_machine = left.replace(left.split(".")[-2].split("-")[0], "00000000")
    alive = f".a.{left.split('.')[-2].split('-')[0]}-{os.getpid()}-abcdefgh.tmp"
    for name in (other_machine, alive, ".mine.tmp", ".a.tmp"):
        (tmp_path / name).touch()
    write_text(tmp_path / "other", "new")
    assert names(tmp_path) == sorted([other_machine, alive, ".mine.tmp", ".a.tmp", "other"])


def test_a_name_as_long_as_the_system_takes(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 255), "whole")
    assert names(tmp_path) == ["n" * 255]


def test_a_target_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    check_target(tmp_path / "new")
    check_target("/dev/null")
    for target, error in ((tmp_path, IsADirectoryError), (tmp_path / "none" / "new", FileNotFoundError)):
        with pytest.raises(error) as raised:
            check_target(target)
        assert raised.value.filename == str(target)
    assert names(tmp_path) == []
