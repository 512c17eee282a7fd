"""HDF5Data beyond its golden cases."""

import contextlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_compat.errors import DataError, NetError
from tests.data.conftest import MakeLayer, same


def write_hdf5(folder: Path, rows: tuple[int, ...] = (5, 4)) -> str:
    start = 0
    for number, count in enumerate(rows):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["data"] = np.arange(start, start + count, dtype=np.float32)[:, None] + np.array([0, 0.5], np.float32)
            file["label"] = np.arange(start, start + count)
        start += count
    (folder / "files.txt").write_text("\n".join(str(folder / f"{n}.h5") for n in range(len(rows))))
    return f"type: 'HDF5Data' top: 'data' top: 'label' hdf5_data_param {{ source: '{folder}/files.txt' batch_size: 3 "


def test_hdf5_data_order_shards_and_resume(tmp_path: Path, make_layer: MakeLayer) -> None:
    text = write_hdf5(tmp_path)
    layer = make_layer(text + "}")
    assert layer.infer_shapes() == [(3, 2), (3,)]
    seen = [int(label) for _ in range(4) for label in layer.next_batch()[1]]
    assert seen == [i % 9 for i in range(12)]
    second = make_layer(text + "}", solver_rank=1, solver_count=2)
    assert second.next_batch()[1].tolist() == [1, 3, 5]
    shuffled = make_layer(text + "shuffle: true }")
    for _ in range(4):
        shuffled.next_batch()
    state = shuffled.source_state()
    expected = [shuffled.next_batch() for _ in range(6)]
    other = make_layer(text + "shuffle: true }")
    other.load_source_state(state)
    assert all(same(other.next_batch(), batch) for batch in expected)
    epoch = make_layer(text.replace("batch_size: 3", "batch_size: 9") + "shuffle: true }").next_batch()[1]
    assert sorted(epoch.tolist()) == list(range(9))


def test_hdf5_data_errors(tmp_path: Path, make_layer: MakeLayer) -> None:
    text = write_hdf5(tmp_path)
    with pytest.raises(NetError, match=r"does not transform data"):
        make_layer(text + "} transform_param { scale: 2 }")
    with pytest.raises(DataError, match=r"no dataset 'other' .*; it has data, label"):
        make_layer(text.replace("'label'", "'other'") + "}")
    (tmp_path / "0.h5").write_bytes(b"x")
    with pytest.raises(DataError, match=r"0.h5: named in .*files.txt: cannot be read as HDF5"):
        make_layer(text + "}")
    (tmp_path / "files.txt").write_text("")
    with pytest.raises(DataError, match=r"files.txt: is empty"):
        make_layer(text + "}")


def test_lists_and_files_of_other_bytes(tmp_path: Path, make_layer: MakeLayer) -> None:
    text = write_hdf5(tmp_path)
    (tmp_path / "files.txt").write_bytes(b"caf\xe9.h5")
    with pytest.raises(DataError, match=r"caf.*.h5: no such file; named in .*files.txt"):
        make_layer(text + "}")
    (tmp_path / "files.txt").write_bytes((tmp_path / "0.h5").read_bytes())
    with pytest.raises(DataError, match=r"files.txt: is an HDF5 file; source has to be a text file with the names"):
        make_layer(text + "}")
    (tmp_path / "files.txt").write_text(f"{tmp_path}/0.h5")
    data = bytearray((tmp_path / "0.h5").read_bytes())
    for place in range(0, len(data), 8):  # a byte of each word
        damaged = data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :]
        (tmp_path / "0.h5").write_bytes(damaged)
        with contextlib.suppress(DataError):
            make_layer(text + "}").next_batch()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1000, 1000, 1000),
            r"0.h5: dataset 'data': shape \(1000, 1000, 1000\) takes 4000000000 bytes; the file does not",
        ),
        ((3000, 1000, 1000), r"0.h5: dataset 'data': shape"),
    ],
)
def test_a_small_file_that_asks_for_gigabytes(
    tmp_path: Path, make_layer: MakeLayer, shape: tuple[int, ...], message: str
) -> None:
    text = write_hdf5(tmp_path)
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file.create_dataset("data", shape, np.float32)
        file.create_dataset("label", shape[:1], np.float32)
    with pytest.raises(DataError, match=message):
        make_layer(text + "}")


def test_values_in_another_file_are_not_fetched(tmp_path: Path, make_layer: MakeLayer) -> None:
    text = write_hdf5(tmp_path)
    (tmp_path / "0.h5").rename(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["data"] = h5py.ExternalLink("secret.h5", "/data")
        file["label"] = h5py.ExternalLink("secret.h5", "/label")
    with pytest.raises(DataError, match=r"0.h5: dataset 'data': its values are in another file; copy them into this"):
        make_layer(text + "}")


@pytest.mark.parametrize("shuffle", ["", "shuffle: true"])
def test_a_state_of_other_files_is_refused_and_changes_nothing(
    tmp_path: Path, make_layer: MakeLayer, shuffle: str
) -> None:
    text = write_hdf5(tmp_path) + shuffle + "}"
    state = make_layer(text).source_state()
    shuffled_state = make_layer(write_hdf5(tmp_path, (20, 4)) + "shuffle: true }").source_state()
    write_hdf5(tmp_path, (5, 4, 3))
    layer = make_layer(text)
    before = layer.source_state()
    with pytest.raises(DataError, match=r"files.txt: has 3 files.*; the saved state has 2"):
        layer.load_source_state(state)
    write_hdf5(tmp_path, (4, 4))
    layer = make_layer(text)
    before = layer.source_state()
    with pytest.raises(DataError, match=r"files.txt: has 4 rows in its file.*; the saved state has 5"):
        layer.load_source_state(state)
    with pytest.raises(DataError, match=r"files.txt: "):
        layer.load_source_state(shuffled_state)
    with pytest.raises(DataError, match=r"files.txt: the saved state stood at 2 of 2"):
        layer.load_source_state({**before, "file": 2})
    for wrong in ({"offset": None}, {"row": "1"}, {"random": [1, 2]}):
        with pytest.raises((TypeError, ValueError)):  # which the solver turns into a line
            layer.load_source_state({**before, **wrong})
    assert layer.source_state() == before
