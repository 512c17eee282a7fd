from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe_compat.data.pair_list import PairList
from caffe_compat.data.segmentation import DenseTransform
from caffe_compat.data.segmentation_source import SegmentationSource
from caffe_compat.data.transformer import Transformer
from caffe_compat.errors import DataError
from caffe_compat.proto.caffe_pb2 import DenseImageDataParameter
from caffe_compat.random import CaffeGenerator
from tests.data.conftest import noise_images

IMAGES, LABELS = noise_images(4), noise_images(4, (1, *noise_images(1).shape[2:]), seed=1)


def write_pairs(path: Path, missing: int = -1) -> Path:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        if number != missing:
            cv2.imwrite(str(path / f"{number}.png"), np.ascontiguousarray(image.transpose(1, 2, 0)))
            cv2.imwrite(str(path / f"{number}_label.png"), label[0])
    (path / "list.txt").write_text("".join(f"{i}.png {i}_label.png\n" for i in range(4)))
    return path


def make_source(path: Path, batch: int = 3, **options: int) -> SegmentationSource:
    transform = DenseTransform(DenseImageDataParameter(mirror=True), Transformer())
    transform.plain.random = CaffeGenerator(1)
    return SegmentationSource(
        PairList(path / "list.txt"),
        transform,
        batch,
        root=f"{path}/",
        **options,
    )


def test_batches(tmp_path: Path) -> None:
    source, stream = make_source(write_pairs(tmp_path), skip=2), CaffeGenerator(1)
    assert source.peek_shape() == IMAGES.shape[1:]
    data, labels, sizes = source.load()
    for place, number in enumerate((2, 3, 0)):
        step = -1 if stream.raw() % 2 else 1
        assert np.array_equal(data[place].numpy(), IMAGES[number][:, :, ::step])
        assert np.array_equal(labels[place].numpy(), LABELS[number][:, :, ::step])
    assert sizes.tolist() == [[[[12, 14]]]] * 3
    source.close()


def test_state_goes_on(tmp_path: Path) -> None:
    source = make_source(write_pairs(tmp_path), shuffle_seed=5)
    source.load()
    state = source.state()
    expected = [source.load()[:2] for _ in range(4)]
    source.set_state(state)
    for batch in expected:
        assert all(torch.equal(a, b) for a, b in zip(source.load(), batch, strict=False))
    source.close()


def test_bad_files(tmp_path: Path) -> None:
    write_pairs(tmp_path, missing=1)
    source = make_source(tmp_path, skip_bad_records=1)
    assert source.load()[0].shape[0] == 3  # 0, 2, 3
    with pytest.raises(DataError, match=r"list.txt: 1.png: .*No such file"):
        source.load()
    source.close()


def test_sizes_that_differ(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for name in ("1.png", "1_label.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((5, 5, 3), np.uint8))
    source = make_source(tmp_path)
    with pytest.raises(DataError, match="expected one size: set a crop"):
        source.load()
    source.close()
