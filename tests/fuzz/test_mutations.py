"""The same seed gives the same inputs; what is said to be right again is."""

import gzip
import io
import json
import zipfile
from random import Random

import pytest

from caffe_compat.proto import caffe_pb2
from tests.fuzz.mutations import BLIND, FORMS, MAX_BYTES, gzipped, mutate, resume, signed, wire, zipped

NET = caffe_pb2.NetParameter(name="n", layer=[caffe_pb2.LayerParameter(name="a", type="ReLU", bottom=["x"])])
DATA = NET.SerializeToString()


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("a", "one two")
    return file.getvalue()


@pytest.mark.parametrize("form", ["bytes", *FORMS])
def test_one_seed_gives_one_input(form: str) -> None:
    made = [[mutate(DATA, form, [b"other"], Random(f"{seed} x")) for seed in range(40)] for _ in range(2)]
    if form not in ("zip", "gzip"):  # which hold the time
        assert made[0] == made[1]
    assert len(set(made[0])) > 20
    assert max(map(len, made[0])) <= MAX_BYTES


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 9])
def test_any_bytes_will_do(data: bytes) -> None:
    for mutation in (*BLIND, *FORMS.values()):
        for seed in range(20):
            mutation(data, Random(seed))


def test_messages_stay_messages() -> None:
    read = 0
    for seed in range(200):
        net = caffe_pb2.NetParameter()
        try:
            net.ParseFromString(wire(DATA, Random(seed)))
            read += 1
        except Exception:
            continue
    assert read > 120


def test_archives_stay_archives() -> None:
    for seed in range(30):
        with zipfile.ZipFile(io.BytesIO(zipped(zip_file(), Random(seed)))) as file:
            assert file.testzip() is None
        gzip.decompress(gzipped(gzip.compress(b"one 1 two 2"), Random(seed)))


def test_a_resume_file_is_signed_again() -> None:
    good = signed(b'{"version": 2, "ranks": [{"a": 1}]}')
    assert json.loads(good)["sha256"]
    assert signed(good) == good
    changed = [resume(good, Random(seed)) for seed in range(30)]
    assert sum(signed(data) == data for data in changed) == len(changed)
