"""ImageData beyond its golden cases."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.errors import DataError, NetError
from tests.data.conftest import MakeLayer, noise_images, same

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


def test_image_data_reads_in_order(tmp_path: Path, make_layer: MakeLayer) -> None:
    images = write_files(tmp_path)
    layer = make_layer(image_layer(tmp_path))
    for start in (0, 3, 6):
        data, label = layer.next_batch()
        numbers = [(start + i) % COUNT for i in range(3)]
        assert label.tolist() == numbers
        assert (data.numpy() == images[numbers]).all()


def test_image_data_shuffles_every_epoch_and_resumes(tmp_path: Path, make_layer: MakeLayer) -> None:
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


def test_image_data_errors(tmp_path: Path, make_layer: MakeLayer) -> None:
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


def test_a_state_of_another_list_is_refused_and_shuffles_nothing(tmp_path: Path, make_layer: MakeLayer) -> None:
    write_files(tmp_path)
    plain = make_layer(image_layer(tmp_path))
    shuffled = make_layer(image_layer(tmp_path, "shuffle: true"))
    for layer, state, word in ((plain, shuffled, "shuffled"), (shuffled, plain, "unshuffled")):
        before = layer.source_state()
        with pytest.raises(DataError, match=rf"list.txt: the saved state is {word}"):
            layer.load_source_state(state.source_state())
        assert layer.source_state() == before
    with pytest.raises(DataError, match=r"list.txt: has 7 images; the saved state stood at 7"):
        plain.load_source_state({**plain.source_state(), "next": 7})
    before = shuffled.source_state()
    with pytest.raises(DataError, match=r"list.txt: the saved state stood behind 1000000000000 shuffles of 7 images"):
        shuffled.load_source_state({**before, "shuffles": 10**12})
    assert shuffled.source_state() == before
