"""The run that these tests look into."""

from pathlib import Path

import pytest

from tests.reproduce.diagnostics.tiny_run import make_run


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; no test changes it."""
    return make_run(tmp_path_factory.mktemp("tiny"))
