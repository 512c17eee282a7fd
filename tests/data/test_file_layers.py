"""ImageData, HDF5Data, HDF5Output, MemoryData and WindowData beyond their golden cases."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from caffe_compat import random
from caffe_compat.data.libc_random import LibcRandom
from caffe_compat.errors import DataError, NetError
from tests.data.conftest import noise_images

COUNT = 7


def write_files(folder: Path) -> np.ndarray:
    images = noise_images(COUNT)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i}.png"), np.ascontiguousarray(image.transpose(1, 2, 0)))
    (folder / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(COUNT)))
    return images


def image_layer(folder: Path, extra: str = "", transform: str = "") -> str:
    return (
        f"type: 'ImageData' top: 'data' top: 'label' {transform} image_data_param {{ source: '{folder}/list.txt' "
        f"root_folder: '{folder}/' batch_size: 3 {extra} }}"
    )


def same(first: tuple, second: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_image_data_reads_in_order(tmp_path: Path, make_layer: Callable) -> None:
    images = write_files(tmp_path)
    layer = make_layer(image_layer(tmp_path))
    for start in (0, 3, 6):
        data, label = layer.next_batch()
        numbers = [(start + i) % COUNT for i in range(3)]
        assert label.tolist() == numbers
        assert (data.numpy() == images[numbers]).all()


def test_image_data_shuffles_every_epoch_and_resumes(tmp_path: Path, make_layer: Callable) -> None:
    write_files(tmp_path)
    random.set_seed(3)
    settings = image_layer(tmp_path, "shuffle: true rand_skip: 4", "transform_param { crop_size: 5 mirror: true }")
    layer = make_layer(settings)
    for _ in range(4):  # into the second epoch
        layer.next_batch()
    state = layer.source_state()
    assert state["shuffles"] >= 2
    expected = [layer.next_batch() for _ in range(5)]
    other = make_layer(settings)
    other.load_source_state(state)
    assert all(same(other.next_batch(), batch) for batch in expected)


def test_image_data_errors(tmp_path: Path, make_layer: Callable) -> None:
    write_files(tmp_path)
    (tmp_path / "4.png").write_bytes(b"broken")
    layer = make_layer(image_layer(tmp_path))
    layer.next_batch()
    with pytest.raises(DataError, match=r"list.txt: 4.png: .*4.png: 6 bytes that cannot be decoded"):
        layer.next_batch()
    lenient = make_layer(image_layer(tmp_path), skip_bad_records=1)
    assert [lenient.next_batch()[1].tolist() for _ in range(2)] == [[0, 1, 2], [3, 5, 6]]
    with pytest.raises(NetError, match=r"new_height 5 and new_width 0"):
        make_layer(image_layer(tmp_path, "new_height: 5"))
    (tmp_path / "list.txt").write_text("0.png\n")
    with pytest.warns(UserWarning, match=r"list.txt:1: no label; read as 0"):
        make_layer(image_layer(tmp_path))
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(DataError, match=r"list.txt: is empty"):
        make_layer(image_layer(tmp_path))


def write_hdf5(folder: Path, rows: tuple[int, ...] = (5, 4)) -> str:
    start = 0
    for number, count in enumerate(rows):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["data"] = np.arange(start, start + count, dtype=np.float32)[:, None] + np.array([0, 0.5], np.float32)
            file["label"] = np.arange(start, start + count)
        start += count
    (folder / "files.txt").write_text("\n".join(str(folder / f"{n}.h5") for n in range(len(rows))))
    return f"type: 'HDF5Data' top: 'data' top: 'label' hdf5_data_param {{ source: '{folder}/files.txt' batch_size: 3 "


def test_hdf5_data_order_shards_and_resume(tmp_path: Path, make_layer: Callable) -> None:
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


def test_hdf5_data_errors(tmp_path: Path, make_layer: Callable) -> None:
    text = write_hdf5(tmp_path)
    with pytest.raises(NetError, match=r"does not transform data"):
        make_layer(text + "} transform_param { scale: 2 }")
    with pytest.raises(DataError, match=r"no dataset 'other' .*; it has data, label"):
        make_layer(text.replace("'label'", "'other'") + "}")
    (tmp_path / "0.h5").write_bytes(b"x")
    with pytest.raises(DataError, match=r"0.h5: cannot be read as HDF5"):
        make_layer(text + "}")
    (tmp_path / "files.txt").write_text("")
    with pytest.raises(DataError, match=r"files.txt: is empty"):
        make_layer(text + "}")


@pytest.mark.skipif(sys.platform != "linux", reason="compares with the GNU C library")
def test_libc_random_is_glibc_s() -> None:
    libc, ours = ctypes.CDLL(None), LibcRandom(1)
    libc.srand(1)
    assert [ours.next() for _ in range(1000)] == [libc.rand() for _ in range(1000)]


def test_hdf5_output_writes_all_passes(tmp_path: Path) -> None:
    from caffe_compat.net.layer_types import layer_types
    from caffe_compat.proto import parse_net

    path = tmp_path / "out.h5"
    text = f"layer {{ name: 'o' type: 'HDF5Output' hdf5_output_param {{ file_name: '{path}' }} }}"
    layer = layer_types()["HDF5Output"](parse_net(text).layer[0])
    layer.setup((2, 3), (2,))
    assert layer.infer_shapes((2, 3), (2,)) == []
    layer(torch.arange(6.0).view(2, 3), torch.tensor([1.0, 2.0]))
    layer(torch.ones(2, 3), torch.tensor([3.0, 4.0]))
    layer.close()
    with h5py.File(path) as file:
        assert file["data"].shape == (4, 3, 1, 1)
        assert file["label"][:].reshape(-1).tolist() == [1, 2, 3, 4]
    with pytest.raises(NetError, match=r"same number of rows"):
        layer.infer_shapes((2, 3), (3,))


MEMORY = (
    "type: 'MemoryData' top: 'data' top: 'label' memory_data_param { batch_size: 2 channels: 3 height: 8 width: 9 }"
)


def test_memory_data(make_layer: Callable) -> None:
    layer = make_layer(MEMORY)
    with pytest.raises(NetError, match=r"has no data yet"):
        layer.next_batch()
    data = torch.rand(4, 3, 8, 9)
    layer.reset(data, [0, 1, 2, 3])
    got = [layer.next_batch() for _ in range(3)]
    assert [label.tolist() for _, label in got] == [[0, 1], [2, 3], [0, 1]]
    assert torch.equal(got[1][0], data[2:])
    with pytest.raises(NetError, match=r"3 images; expected a multiple of batch_size 2"):
        layer.reset(data[:3], [0, 1, 2])
    with pytest.raises(NetError, match=r"expected \(M, 3, 8, 9\)"):
        layer.reset(data[:, :, :7], [0, 1, 2, 3])


def test_memory_data_adds_images(make_layer: Callable) -> None:
    layer = make_layer(MEMORY + " transform_param { crop_size: 8 scale: 0.5 }".replace("8", "8"), phase="TEST")
    square = make_layer(
        MEMORY.replace("width: 9", "width: 8") + " transform_param { crop_size: 8 scale: 0.5 }", phase="TEST"
    )
    images = [image.transpose(1, 2, 0) for image in noise_images(2)]
    square.add_images(images, [4, 5])
    with pytest.raises(NetError, match=r"before all images added so far are read"):
        square.add_images(images, [4, 5])
    data, label = square.next_batch()
    assert label.tolist() == [4, 5]
    assert (data.numpy() == noise_images(2)[:, :, 2:10, 3:11] * np.float32(0.5)).all()
    with pytest.raises(NetError, match=r"images give \(3, 8, 8\)"):
        layer.add_images(images, [4, 5])


def write_windows(folder: Path, text: str | None = None) -> str:
    cv2.imwrite(str(folder / "image.png"), noise_images(1, (3, 30, 40))[0].transpose(1, 2, 0).copy())
    default = "# 0\nimage.png\n3 \n30\n40\n3\n2 0.9 5 5 20 20\n1 0.1 0 0 39 29\n1 0.55 3 3 9 9\n"
    (folder / "windows.txt").write_text(default if text is None else text)
    return (
        f"type: 'WindowData' top: 'data' top: 'label' window_data_param {{ source: '{folder}/windows.txt' root_folder: "
        f"'{folder}/' batch_size: 8 fg_threshold: 0.6 bg_threshold: 0.5 context_pad: 2 crop_mode: 'square' }} "
        "transform_param { crop_size: 12 mirror: true }"
    )


def test_window_data_share_and_resume(tmp_path: Path, make_layer: Callable) -> None:
    random.set_seed(2)
    layer = make_layer(write_windows(tmp_path))
    data, label = layer.next_batch()
    assert data.shape == (8, 3, 12, 12)
    assert label.tolist() == [0] * 6 + [2] * 2
    state = layer.source_state()
    expected = [layer.next_batch() for _ in range(3)]
    layer.load_source_state(state)
    assert all(same(layer.next_batch(), batch) for batch in expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "windows.txt: is empty"),
        ("# 1\nimage.png\n", "windows.txt:1: image 0: expected `# 0`"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 20\n", "lines of 6 numbers"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 20 20\n", "no background windows"),
    ],
)
def test_window_file_errors(tmp_path: Path, make_layer: Callable, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_layer(write_windows(tmp_path, text))
