"""Batches from a database, as the Data layer and Loader get them."""

import pickle
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from caffe_compat.data import Transformer, encode_datum, encode_image, open_database, write_index_file, write_lmdb
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.image_batch import PlainImageBatch
from caffe_compat.errors import DataError
from tests.data.conftest import COUNT, SHAPE, append, same

pytestmark = pytest.mark.usefixtures("image_batches")


def make_source(
    path: Path, batch_size: int = 4, transformer: Transformer | None = None, **options: int
) -> DatabaseSource:
    transformer = transformer or Transformer()
    transformer.start_random(3)
    return DatabaseSource(open_database(path), transformer, batch_size, **options)


def test_records_in_order_and_from_the_start_again(database: Path, images: np.ndarray) -> None:
    source = make_source(database)
    data, labels = source.load()
    assert data.dtype == labels.dtype == torch.float32
    assert (data.numpy() == images[:4]).all()
    assert [source.load()[1].tolist() for _ in range(2)] == [[4, 5, 6, 7], [8, 9, 0, 1]]


def test_read_hands_out_images_as_they_are(database: Path, images: np.ndarray) -> None:
    source = make_source(database, transformer=Transformer(scale=0.5))
    batch, labels = source.read()
    assert labels.tolist() == [0, 1, 2, 3]
    assert (source.maker.copy_bytes(batch) == images[:4]).all()


@pytest.mark.parametrize("rank", range(3))
def test_a_ranks_share(database: Path, rank: int) -> None:
    source = make_source(database, 5, rank=rank, rank_count=3)
    labels = [int(label) for _ in range(3) for label in source.load()[1]]
    assert labels == [(rank + 3 * i) % COUNT for i in range(15)]


def test_state_returns_to_the_same_batches(database: Path) -> None:
    random = {"crop_size": 8, "mirror": True}
    source = make_source(database, transformer=Transformer(**random))
    source.load()
    state = source.state()
    assert state["offset"] == 4
    expected = [source.load() for _ in range(3)]
    other = make_source(database, transformer=Transformer(**random))
    other.set_state(state)
    copy = pickle.loads(pickle.dumps(other))
    for again in (other, copy):
        assert all(same(again.load(), batch) for batch in expected)


def test_the_first_record_tells_the_shape(database: Path, tmp_path: Path) -> None:
    assert make_source(database).peek_shape() == SHAPE
    assert make_source(database, transformer=Transformer(crop_size=5)).peek_shape() == (3, 5, 5)
    assert not make_source(database).first_is_encoded()
    write_lmdb(tmp_path / "files", [("0", encode_image(b"no image"))])
    source = make_source(tmp_path / "files")
    assert source.first_is_encoded()
    with pytest.raises(DataError, match=r"files: record '0': image: 8 bytes that cannot be decoded"):
        source.peek_shape()


def test_labels_of_a_subset_are_its_own(database: Path, tmp_path: Path) -> None:
    write_index_file(tmp_path / "subset", database, np.array([7, 2]), np.array([1, 0]))
    assert make_source(tmp_path / "subset").load()[1].tolist() == [1, 0, 1, 0]


def test_records_that_are_passed_over_make_room_for_the_next(database: Path) -> None:
    with lmdb.open(str(database)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"00000002_image2", b"\x08")
        transaction.put(b"00000003_image3", encode_datum(np.zeros((3, 1, 1), np.uint8), 3))
    source = make_source(database, skip_bad_records=2)
    assert source.load()[1].tolist() == [0, 1, 4, 5]
    assert source.state()["bad_records"] == 2
    with pytest.raises(DataError, match="db: record '00000002_image2': record ends inside a field"):
        make_source(database, skip_bad_records=0).load()


def test_a_record_appended_meanwhile_comes_in_its_turn(database: Path, images: np.ndarray) -> None:
    """As in Caffe nothing stops; there the new record comes when the program is started again."""
    source = make_source(database)
    assert source.load()[1].tolist() == [0, 1, 2, 3]
    state = source.state()
    append(database, b"00000010_new", value=encode_datum(images[0], 77))
    with pytest.warns(UserWarning, match=f"another process has written to it: {COUNT} records before, {COUNT + 1} now"):
        data, labels = source.load()
    assert labels.tolist() == [4, 5, 6, 7]
    assert (data.numpy() == images[4:8]).all()
    data, labels = source.load()
    assert labels.tolist() == [8, 9, 77, 0]
    assert (data[2].numpy() == images[0]).all()
    source.set_state(state)
    assert source.load()[1].tolist() == [4, 5, 6, 7]


def test_a_subset_goes_on_when_its_database_grows(database: Path, images: np.ndarray, tmp_path: Path) -> None:
    write_index_file(tmp_path / "subset", database, np.array([8, 1, 5]), np.array([2, 0, 1]))
    source = make_source(tmp_path / "subset", batch_size=2)
    assert source.load()[1].tolist() == [2, 0]
    append(database, b"00000010_new", value=encode_datum(images[0], 77))
    with pytest.warns(UserWarning, match="another process has written to it"):
        data, labels = source.load()
    assert labels.tolist() == [1, 2]
    assert (data.numpy() == images[[5, 8]]).all()


def test_what_is_made_of_torn_records_is_made_again(database: Path, images: np.ndarray) -> None:
    """A batch views the database until it is transformed."""
    source, expected = (make_source(database, transformer=Transformer(crop_size=5, mirror=True)) for _ in range(2))
    made = source.maker.transform

    def make_while_another_writes(batch: PlainImageBatch) -> np.ndarray:
        result = made(batch)
        if len(source.database) == COUNT:
            append(database, b"zz", commits=3, value=encode_datum(images[0], 77))
            result[:] = 0
        return result

    source.maker.transform = make_while_another_writes  # type: ignore[method-assign]
    first = expected.load()
    with pytest.warns(UserWarning, match="another process has written to it"):
        assert same(source.load(), first)
    assert source.state() == {**expected.state(), "position": source.state()["position"]}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("subset", [False, True])
def test_a_batch_that_a_writer_may_have_torn_is_read_again(
    database: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool, subset: bool
) -> None:
    """Three transactions on, LMDB writes to pages that our view still takes for its own."""
    if subset:
        write_index_file(tmp_path / "subset", database, np.arange(COUNT), np.arange(COUNT))
    source = make_source(tmp_path / "subset" if subset else database)
    source.load()
    read, times = source._read, []  # noqa: SLF001

    def read_while_another_writes() -> object:
        batch = read()
        times.append(batch[1].tolist())
        if len(times) == 1:
            append(database, b"zz", commits=3, value=encode_datum(images[0], 77))
            source.bad_records.count += 1
            if fails:
                raise DataError("torn")
        return batch

    monkeypatch.setattr(source, "_read", read_while_another_writes)
    with pytest.warns(UserWarning, match="another process has written to it"):
        data, labels = source.load()
    assert (data.numpy() == images[4:8]).all()
    assert (times, labels.tolist()) == ([[4, 5, 6, 7], [4, 5, 6, 7]], [4, 5, 6, 7])
    assert (source.bad_records.count, source.state()["offset"]) == (0, 8)
