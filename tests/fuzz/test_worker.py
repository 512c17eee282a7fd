"""Each way to fail is seen, named and told apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.readers import READERS
from tests.fuzz.worker import Outcome, Worker, is_ours, observe

pytestmark = pytest.mark.xdist_group("fuzz")


@pytest.mark.parametrize(
    ("word", "kind", "text"),
    [
        ("read", "read", ""),
        ("refuse", "refused", "DataError: "),
        ("unnamed", "message", "DataError: is damaged"),
        ("raise", "exception", "KeyError: 'x'"),
    ],
)
def test_kinds(word: str, kind: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "input").write_text(word)
    outcome = observe(READERS["failing"], tmp_path / "input")
    assert outcome.kind == kind
    assert outcome.text.startswith(text)
    assert outcome.is_fault == (kind not in ("read", "refused"))


def test_files_of_the_package_wherever_the_clone_lies() -> None:
    clone = Path(__file__).parents[2]
    assert is_ours(str(clone / "caffe_compat" / "proto" / "read.py"))
    assert is_ours(str(clone / "reproduce" / "plan.py"))
    for other in (clone / "tests" / "fuzz" / "worker.py", "/home/caffe_compat/tests/x.py", "/v/site-packages/cv2.py"):
        assert not is_ours(str(other))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(READERS["failing"], tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("word", "kind", "text"), [("crash", "crash", "SIGSEGV"), ("hang", "hang", ""), ("memory", "memory", "MemoryError")]
)
def test_a_process_that_ends_is_started_again(word: str, kind: str, text: str, worker: Worker) -> None:
    assert worker.run(b"read") == Outcome("read")
    outcome = worker.run(word.encode(), timeout_s=20 if word != "hang" else 0.5)
    assert outcome.kind == kind
    assert outcome.text.startswith(text)
    assert worker.run(b"read") == Outcome("read")
