import numpy as np
import pytest
import torch

from caffe_compat.data.layers.memory_data import MemoryData
from caffe_compat.errors import DataError, NetError
from tests.data.conftest import MakeLayer, noise_images

MEMORY = (
    "type: 'MemoryData' top: 'data' top: 'label' memory_data_param { batch_size: 2 channels: 3 height: 8 width: 9 }"
)


def test_memory_data(make_layer: MakeLayer) -> None:
    layer = make_layer(MEMORY)
    assert isinstance(layer, MemoryData)
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


def test_memory_data_adds_images(make_layer: MakeLayer) -> None:
    layer = make_layer(MEMORY + " transform_param { crop_size: 8 scale: 0.5 }".replace("8", "8"), phase="TEST")
    square = make_layer(
        MEMORY.replace("width: 9", "width: 8") + " transform_param { crop_size: 8 scale: 0.5 }", phase="TEST"
    )
    assert isinstance(layer, MemoryData)
    assert isinstance(square, MemoryData)
    images = [image.transpose(1, 2, 0) for image in noise_images(2)]
    square.add_images(images, [4, 5])
    with pytest.raises(NetError, match=r"before all images added so far are read"):
        square.add_images(images, [4, 5])
    data, label = square.next_batch()
    assert label.tolist() == [4, 5]
    assert (data.numpy() == noise_images(2)[:, :, 2:10, 3:11] * np.float32(0.5)).all()
    with pytest.raises(NetError, match=r"images give \(3, 8, 8\)"):
        layer.add_images(images, [4, 5])


def test_a_place_that_is_not_in_the_data_is_refused(make_layer: MakeLayer) -> None:
    layer = make_layer(MEMORY)
    assert isinstance(layer, MemoryData)
    state = layer.source_state()
    assert layer.source_identity()["content"] == "0 images"
    for position in (2, -2):
        with pytest.raises(DataError, match=r"has 0 images in batches of 2; the saved state stood at -?2"):
            layer.load_source_state({**state, "position": position})
    layer.reset(torch.rand(4, 3, 8, 9), [0, 1, 2, 3])
    assert layer.source_identity()["content"] == "4 images"
    for position in (4, 1):
        with pytest.raises(DataError, match=rf"has 4 images in batches of 2; the saved state stood at {position}"):
            layer.load_source_state({**state, "position": position})
    layer.load_source_state({**state, "position": 2})
    assert layer.next_batch()[1].tolist() == [2, 3]
