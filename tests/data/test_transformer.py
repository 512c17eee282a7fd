from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.data import Transformer, write_mean
from caffe_compat.data.transformer import CropWindow
from caffe_compat.errors import DataError
from caffe_compat.proto import parse_net
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images


def test_draws_mirror_then_row_then_column() -> None:
    transformer = Transformer(crop_size=5, mirror=True)
    transformer.start_random(3)
    stream = CaffeGenerator(3)
    for _ in range(20):
        mirror, top, left = stream.raw() % 2, stream.raw() % 4, stream.raw() % 6
        assert transformer.draw(8, 10) == (top, left, mirror == 1)


def test_a_seed_of_its_own_takes_no_draw_of_the_process() -> None:
    """transform_param.random_seed, of NVCaffe."""
    transformer, stream = Transformer(crop_size=5, random_seed=3), CaffeGenerator(3)
    with random.scope(seed=1):
        for _ in range(2):  # as a layer is set up, and as its thread starts
            transformer.start_random()
        assert random.generator().raw() == CaffeGenerator(1).raw()
    assert transformer.draw(8, 10) == (stream.raw() % 4, stream.raw() % 6, False)
    param = parse_net("layer { type: 'Data' transform_param { mirror: true random_seed: 7 } }").layer[0].transform_param
    assert Transformer.from_param(param, "TRAIN").random_seed == 7
    param.ClearField("random_seed")
    assert Transformer.from_param(param, "TRAIN").random_seed is None


def test_nothing_random_draws_nothing() -> None:
    assert not Transformer(crop_size=5, phase="TEST").is_random
    assert Transformer(crop_size=5, phase="TEST").draw(8, 11) == (1, 3, False)
    assert Transformer(crop_size=5, mirror=True, phase="TEST").is_random


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 20}, "image is 3x12x14 .*; expected at least 20x20 for crop_size 20"),
        ({"mean_value": [1, 2]}, "2 mean_value for 3 channels"),
    ],
)
def test_images_that_caffe_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Transformer(**settings).output_shape(3, 12, 14)


def test_a_mean_image_is_as_good_as_its_file(tmp_path: Path) -> None:
    mean = np.random.default_rng(0).random((3, 12, 14)) * 255
    write_mean(tmp_path / "mean.binaryproto", mean.astype(np.float32))
    image = noise_images(1)[0]
    window = CropWindow(2, 3, mirror=True)
    from_file = Transformer(crop_size=5, mean_file=tmp_path / "mean.binaryproto", scale=0.5).apply(image, window)
    from_array = Transformer(crop_size=5, mean_image=mean, scale=0.5).apply(image, window)
    assert np.array_equal(from_array, from_file)
    by_hand = (image[:, 2:7, 3:8] - mean[:, 2:7, 3:8].astype(np.float32)) * np.float32(0.5)
    assert np.array_equal(from_array, by_hand[:, :, ::-1])


def test_mean_of_another_size(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((3, 2, 2), np.float32))
    with pytest.raises(DataError, match=r"the mean file is 3x2x2"):
        Transformer(mean_file=tmp_path / "mean.npy").output_shape(3, 12, 14)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean_file": "m", "mean_value": [1]}, "mean_file and mean_value are both set"),
        ({"mean_image": np.zeros((3, 2, 2)), "mean_value": [1]}, "mean_image beside mean_file or mean_value"),
        ({"mean_image": np.zeros((3, 2, 2)), "mean_file": "m"}, "mean_image beside mean_file or mean_value"),
        ({"force_color": True, "force_gray": True}, "force_color and force_gray are both set"),
        ({"mean_file": "absent.binaryproto"}, "absent.binaryproto: no such mean file"),
    ],
)
def test_settings_that_caffe_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Transformer(**settings)
