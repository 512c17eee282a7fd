"""Without a word networks are computed layer by layer in fp32: docs/reproduce.md promises it."""

from reproduce.mode import Mode
from reproduce.options import Options


def test_the_default_is_the_plain_mode() -> None:
    assert Mode() == Mode(threads=1, fast=False, precision="fp32")
    assert (Options().fast, Options().precision) == (Mode().fast, Mode().precision)
