from pathlib import Path

import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.errors import CaffeCompatError
from tests.data.conftest import MakeLayer, same
from tests.data.test_segmentation_source import IMAGES, LABELS, write_pairs

RANDOM = "mirror: true crop_height: 5 crop_width: 6 shuffle: true rand_skip: 3"


def text(folder: Path, fields: str = "", more: str = "") -> str:
    return (
        f"type: 'DenseImageData' top: 'data' top: 'label' {more} dense_image_data_param {{ "
        f"source: '{folder}/list.txt' root_folder: '{folder}/' batch_size: 2 {fields} }}"
    )


def test_tops(tmp_path: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(write_pairs(tmp_path), more="transform_param { mean_value: 9 scale: 2 }"))
    assert layer.infer_shapes() == [(2, 3, 12, 14), (2, 1, 12, 14)]
    data, labels = layer.next_batch()
    assert np.array_equal(data.numpy(), (IMAGES[:2].astype(np.float32) - 9) * 2)
    assert np.array_equal(labels.numpy(), LABELS[:2])


def test_exact_resume_and_draws(tmp_path: Path, make_layer: MakeLayer) -> None:
    """One draw to shuffle, one to skip, one for mirrors and crops."""
    write_pairs(tmp_path)
    random.set_seed(4)
    layer = make_layer(text(tmp_path, RANDOM))
    stream = random.CaffeGenerator(4)
    for _ in range(3):
        stream.raw()
    assert random.generator().raw() == stream.raw()
    layer.next_batch()
    state = layer.source_state()
    expected = [layer.next_batch() for _ in range(5)]
    other = make_layer(text(tmp_path, RANDOM))
    other.load_source_state(state)
    assert all(same(other.next_batch(), batch) for batch in expected)


def test_shapes_without_data(tmp_path: Path, make_layer: MakeLayer) -> None:
    assert make_layer(text(write_pairs(tmp_path), RANDOM)).shapes_without_data() == [(2, 3, 5, 6), (2, 1, 5, 6)]


@pytest.mark.parametrize(
    ("fields", "more", "message"),
    [
        ("new_height: 3", "", "new_height 3 and new_width 0; set both"),
        ("crop_width: 3", "", "crop_height 0 and crop_width 3; set both"),
        ("", "transform_param { mirror: true }", "would not treat images and labels alike"),
        ("", "transform_param { crop_size: 3 }", "would not treat images and labels alike"),
        ("crop_height: 30 crop_width: 3", "", "at least the crop of 30x3"),
    ],
)
def test_refusals(fields: str, more: str, message: str, tmp_path: Path, make_layer: MakeLayer) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        make_layer(text(write_pairs(tmp_path), fields, more))
