from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import random
from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.data.annotations import encode_annotated
from caffe_compat.errors import CaffeCompatError
from tests.data.conftest import MakeLayer, noise_images, same

RANDOM = """transform_param { mirror: true expand_param { prob: 0.7 max_expand_ratio: 2 } crop_size: 6 }
annotated_data_param { batch_sampler { sampler { min_scale: 0.8 } max_sample: 1 max_trials: 3 } label_map_file: "x" }"""


@pytest.fixture
def boxes_database(tmp_path: Path) -> Path:
    def record(number: int, image: np.ndarray) -> bytes:
        place = number / 16
        return encode_annotated(encode_datum(image, 0), [(number + 1, (place, place, place + 0.5, 0.75), False)])

    write_lmdb(tmp_path / "db", ((f"{i:08d}", record(i, image)) for i, image in enumerate(noise_images())))
    return tmp_path / "db"


def text(source: Path, more: str = "", batch: int = 3) -> str:
    return (
        f"type: 'AnnotatedData' top: 'data' top: 'label' {more} "
        f"data_param {{ source: '{source}' batch_size: {batch} backend: LMDB }}"
    )


def test_tops(boxes_database: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(boxes_database))
    assert layer.infer_shapes() == [(3, 3, 12, 14), (1, 1, 1, 8)]
    data, boxes = layer.next_batch()
    assert torch.equal(data, torch.from_numpy(noise_images()[:3]).float())
    assert boxes[0, 0].tolist() == [[i, i + 1, 0, i / 16, i / 16, i / 16 + 0.5, 0.75, 0] for i in range(3)]


def test_one_top(boxes_database: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(boxes_database).replace("top: 'label'", ""))
    assert layer.infer_shapes() == [(3, 3, 12, 14)]
    assert len(layer.next_batch()) == 1


def test_exact_resume(boxes_database: Path, make_layer: MakeLayer) -> None:
    random.set_seed(5)
    layer = make_layer(text(boxes_database, RANDOM))
    for _ in range(2):
        layer.next_batch()
    state = layer.source_state()
    expected = [layer.next_batch() for _ in range(4)]
    other = make_layer(text(boxes_database, RANDOM))
    for again in (other, layer):
        again.load_source_state(state)
        assert all(same(again.next_batch(), batch) for batch in expected)


def test_draws_of_the_global_stream_at_setup(boxes_database: Path, make_layer: MakeLayer) -> None:
    """One for each of SSD's two threads, and two for the transformer where it has a stream of its own."""
    for more, draws in (("", 2), (RANDOM, 4)):
        random.set_seed(1)
        make_layer(text(boxes_database, more))
        stream = random.CaffeGenerator(1)
        for _ in range(draws):
            stream.raw()
        assert random.generator().raw() == stream.raw()


def test_ranks_take_turns(boxes_database: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(boxes_database), phase="TRAIN", solver_rank=1, solver_count=2)
    assert layer.next_batch()[1][0, 0, :, 1].tolist() == [2, 4, 6]


def test_shapes_without_data(make_layer: MakeLayer, boxes_database: Path) -> None:
    layer = make_layer(text(boxes_database))
    layer.param.transform_param.resize_param.height = layer.param.transform_param.resize_param.width = 300
    assert layer.shapes_without_data() == [(3, 3, 300, 300), (1, 1, 1, 8)]


def test_batches_are_made_on_the_host(boxes_database: Path, make_layer: MakeLayer) -> None:
    assert not make_layer(text(boxes_database)).make_batches_on(torch.device("cuda"))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("annotated_data_param { seg_scales: 3 yolo_data_type: 1 }", "yolo_data_type, seg_scales is not SSD's"),
        ("transform_param { resize_param { height: 3 width: 3 resize_mode: FIT_SMALL_SIZE } }", "batch_size is 3; exp"),
        ("transform_param { resize_param { height: 3 width: 3 } }", "record '00000000': is raw"),
        ("annotated_data_param { batch_sampler { sampler { max_scale: 2 } } }", "max_scale 2"),
        ("annotated_data_param { anno_type: LANE }", "is of type LANE"),
    ],
)
def test_refusals(more: str, message: str, boxes_database: Path, make_layer: MakeLayer) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        make_layer(text(boxes_database, more))
