import logging
from logging.handlers import BufferingHandler

import pytest

from caffe_compat.data.bad_records import BadRecords
from caffe_compat.errors import DataError


def test_as_many_as_allowed_are_logged_then_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, heard = BadRecords(2), BufferingHandler(100)
    monkeypatch.setattr(logging.getLogger("caffe_compat.data.bad_records"), "handlers", [heard])
    bad.pass_over("db: record 'a'", DataError("is cut"))
    bad.pass_over("db: record 'b'", DataError("is empty"))
    assert [record.getMessage() for record in heard.buffer] == [
        "db: record 'a': is cut (skipped: 1 of at most 2)",
        "db: record 'b': is empty (skipped: 2 of at most 2)",
    ]
    with pytest.raises(DataError, match=r"^db: record 'c': is cut$"):
        bad.pass_over("db: record 'c'", DataError("is cut"))
    assert bad.count == 2


def test_none_is_allowed_by_nought() -> None:
    with pytest.raises(DataError, match=r"^here: no$"):
        BadRecords(0).pass_over("here", DataError("no"))
