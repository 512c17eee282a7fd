from pathlib import Path

import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.errors import CaffeCompatError
from tests.data.conftest import MakeLayer, same
from tests.data.test_segmentation_source import IMAGES, LABELS, write_pairs

RANDOM = "transform_param { mirror: true crop_size: 13 scale_factors: 0.5 scale_factors: 1.5 mean_value: 9 }"


def text(folder: Path, fields: str = "label_type: PIXEL", more: str = "") -> str:
    return (
        f"type: 'ImageSegData' top: 'data' top: 'label' top: 'sizes' {more} image_data_param {{ "
        f"source: '{folder}/list.txt' root_folder: '{folder}/' batch_size: 2 {fields} }}"
    )


def test_tops(tmp_path: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(write_pairs(tmp_path)))
    assert layer.infer_shapes() == [(2, 3, 12, 14), (2, 1, 12, 14), (2, 1, 1, 2)]
    data, labels, sizes = layer.next_batch()
    assert np.array_equal(data.numpy(), IMAGES[:2])
    assert np.array_equal(labels.numpy(), LABELS[:2])
    assert sizes.flatten().tolist() == [12, 14, 12, 14]


def test_sizes_are_cut_to_the_crop(tmp_path: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(write_pairs(tmp_path), more=RANDOM))
    assert layer.next_batch()[2].flatten().tolist() == [12, 13, 12, 13]


def test_exact_resume_and_draws(tmp_path: Path, make_layer: MakeLayer) -> None:
    """Two for the transformer, one to shuffle, one for the thread."""
    write_pairs(tmp_path)
    fields = "label_type: PIXEL shuffle: true"
    random.set_seed(4)
    layer = make_layer(text(tmp_path, fields, RANDOM))
    stream = random.CaffeGenerator(4)
    for _ in range(4):
        stream.raw()
    assert random.generator().raw() == stream.raw()
    layer.next_batch()
    state = layer.source_state()
    expected = [layer.next_batch() for _ in range(5)]
    other = make_layer(text(tmp_path, fields, RANDOM))
    other.load_source_state(state)
    assert all(same(other.next_batch(), batch) for batch in expected)


def test_shapes_without_data(tmp_path: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(write_pairs(tmp_path), more=RANDOM))
    assert layer.shapes_without_data() == [(2, 3, 13, 13), (2, 1, 13, 13), (2, 1, 1, 2)]


@pytest.mark.parametrize(
    ("fields", "more", "message"),
    [
        ("new_height: 3", "", "new_height 3 and new_width 0; set both"),
        ("", "transform_param { crop_height: 3 }", "crop_size, or both crop_height and crop_width"),
        ("", "transform_param { crop_size: 3 crop_height: 3 crop_width: 3 }", "crop_size, or both"),
        ("", "transform_param { mean_file: 'x' }", "mean_file is not for ImageSegData"),
        ("", "transform_param { scale_factors: 0 }", "scale_factors are .*; expected numbers above 0"),
    ],
)
def test_refusals(fields: str, more: str, message: str, tmp_path: Path, make_layer: MakeLayer) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        make_layer(text(write_pairs(tmp_path), fields, more))


def test_two_tops(tmp_path: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(write_pairs(tmp_path)).replace("top: 'sizes'", ""))
    assert layer.infer_shapes() == [(2, 3, 12, 14), (2, 1, 12, 14)]
    assert len(layer.next_batch()) == 2
