import logging
import pickle
import re
import threading
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.data import encode_datum, encode_image, write_index_file, write_lmdb
from caffe_compat.data.layers.data import Data
from caffe_compat.errors import DataError, NetError
from caffe_compat.layers.base import Layer
from tests.data.conftest import COUNT, SHAPE, MakeLayer, noise_images, write_images

RANDOM = "transform_param { crop_size: 8 mirror: true mean_value: 100 scale: 0.5 }"


def text(source: Path, batch: int = 4, extra: str = "", transform: str = "") -> str:
    return (
        f"type: 'Data' top: 'data' top: 'label' {transform} "
        f"data_param {{ source: '{source}' batch_size: {batch} backend: LMDB {extra} }}"
    )


def labels(layer: Layer, batches: int) -> list[int]:
    return [int(label) for _ in range(batches) for label in layer.next_batch()[1]]


def test_shapes_order_and_wrap(database: Path, images: np.ndarray, make_layer: MakeLayer) -> None:
    layer = make_layer(text(database))
    assert layer.infer_shapes() == [(4, *SHAPE), (4,)]
    data, label = layer.next_batch()
    assert data.dtype == label.dtype == torch.float32
    assert (data.numpy() == images[:4]).all()
    assert labels(layer, 4) == [(4 + i) % COUNT for i in range(16)]


def test_batches_stay_as_they_are(database: Path, images: np.ndarray, make_layer: MakeLayer) -> None:
    """Memory is used again, but never while somebody holds a batch."""
    layer = make_layer(text(database, batch=5))
    held = [layer.next_batch()[0] for _ in range(12)]
    assert all((data.numpy() == images[5 * (i % 2) : 5 * (i % 2) + 5]).all() for i, data in enumerate(held))


@pytest.mark.parametrize("taken", [0, 1, 3, 7])
def test_exact_resume(database: Path, make_layer: MakeLayer, taken: int) -> None:
    random.set_seed(5)
    layer = make_layer(text(database, transform=RANDOM))
    for _ in range(taken):
        layer.next_batch()
    state = layer.source_state()
    expected = [layer.next_batch() for _ in range(5)]
    other = make_layer(text(database, transform=RANDOM))
    other.next_batch()
    for again in (other, layer):
        again.load_source_state(state)
        for batch in expected:
            assert all(torch.equal(a, b) for a, b in zip(again.next_batch(), batch, strict=True))


def test_draws_of_the_global_stream_at_setup(database: Path, make_layer: MakeLayer) -> None:
    """Two for the transformer where it is random, and one that Caffe's thread always takes."""
    for transform, draws in ((RANDOM, 3), ("transform_param { scale: 2 }", 1)):
        random.set_seed(1)
        make_layer(text(database, transform=transform))
        stream = random.CaffeGenerator(1)
        for _ in range(draws):
            stream.raw()
        assert random.generator().raw() == stream.raw()


@pytest.mark.parametrize("count", [2, 3])
def test_shards_of_several_processes(database: Path, make_layer: MakeLayer, count: int) -> None:
    """Record i goes to rank i % count, counted on through the epochs; TEST reads everything."""
    for rank in range(count):
        layer = make_layer(text(database), solver_rank=rank, solver_count=count)
        assert labels(layer, 4) == [(rank + count * i) % COUNT for i in range(16)]
    assert labels(make_layer(text(database), solver_rank=1, solver_count=2, phase="TEST"), 1) == [0, 1, 2, 3]


def test_threads_end(database: Path, make_layer: MakeLayer) -> None:
    def mine() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith(("prefetch", "decode"))]

    layer = make_layer(text(database))
    layer.next_batch()
    assert mine()
    layer.close()
    assert not mine()
    assert labels(layer, 1) == [4, 5, 6, 7]  # it can go on
    del layer


def test_thread_of_a_forgotten_layer_ends(database: Path) -> None:
    from caffe_compat.layers.base import LayerContext
    from caffe_compat.net.layer_types import layer_types
    from caffe_compat.proto import parse_net

    param = parse_net(f"layer {{ name: 'forgotten' {text(database)} }}").layer[0]
    layer = layer_types()["Data"](param, LayerContext())
    layer.setup()
    layer.next_batch()
    thread = next(t for t in threading.enumerate() if t.name == "prefetch forgotten")
    del layer
    thread.join(5)
    assert not thread.is_alive()


def test_source_is_picklable_with_its_position(database: Path, make_layer: MakeLayer) -> None:
    layer = make_layer(text(database, transform=RANDOM))
    assert isinstance(layer, Data)
    source = layer.source
    source.load()
    copy = pickle.loads(pickle.dumps(source))
    assert all(torch.equal(a, b) for a, b in zip(source.load(), copy.load(), strict=True))
    copy.close()


def spoil(database: Path, number: int, value: bytes) -> None:
    with lmdb.open(str(database)) as environment, environment.begin(write=True) as transaction:
        transaction.put(f"{number:08d}_image{number}".encode(), value)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """caplog, which hears the package's log, too."""
    monkeypatch.setattr(logging.getLogger("caffe_compat"), "propagate", True)
    return caplog


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\x08", "record ends inside a field"),
        (encode_datum(noise_images(1, (3, 11, 14))[0], 5), "gives 3x11x14 .*, the first of its batch 3x12x14"),
        (encode_image(b"no image", 5), "8 bytes that cannot be decoded"),
    ],
)
def test_bad_records(
    database: Path, make_layer: MakeLayer, heard: pytest.LogCaptureFixture, value: bytes, message: str
) -> None:
    spoil(database, 5, value)
    layer = make_layer(text(database))
    assert labels(layer, 1) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=f"db: record '00000005_image5': .*{message}"):
        layer.next_batch()
    with pytest.raises(DataError):  # again: the layer stays where it was
        layer.next_batch()
    lenient = make_layer(text(database), skip_bad_records=2)
    with heard.at_level(logging.WARNING):
        assert labels(lenient, 4) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 0, 1, 2, 3, 4, 6, 7]
    assert "skipped: 2 of at most 2" in heard.text
    assert lenient.source_state()["bad_records"] == 2
    with pytest.raises(DataError, match=r"00000005_image5"):
        labels(lenient, 3)


def test_other_sizes_are_fine_with_a_crop(tmp_path: Path, make_layer: MakeLayer) -> None:
    sizes = [(3, 12, 14), (3, 20, 9), (3, 8, 8)]
    write_lmdb(tmp_path / "db", ((f"{i}", encode_datum(noise_images(1, s)[0], i)) for i, s in enumerate(sizes)))
    layer = make_layer(text(tmp_path / "db", batch=3, transform="transform_param { crop_size: 8 }"), phase="TEST")
    assert layer.next_batch()[0].shape == (3, 3, 8, 8)


def test_encoded_records(tmp_path: Path, make_layer: MakeLayer) -> None:
    images = noise_images(5)
    files = [cv2.imencode(".png", np.ascontiguousarray(i.transpose(1, 2, 0)))[1].tobytes() for i in images]
    write_lmdb(tmp_path / "db", ((f"{i}", encode_image(file, i)) for i, file in enumerate(files)))
    assert (make_layer(text(tmp_path / "db", batch=5)).next_batch()[0].numpy() == images).all()


def test_subset_as_source(database: Path, images: np.ndarray, make_layer: MakeLayer) -> None:
    write_index_file(database.with_name("half"), database, np.array([9, 2, 4]), np.array([1, 0, 2]))
    data, label = make_layer(text(database.with_name("half"))).next_batch()
    assert label.tolist() == [1, 0, 2, 1]
    assert (data.numpy() == images[[9, 2, 4, 9]]).all()


def test_backend_is_recognised(database: Path, make_layer: MakeLayer) -> None:
    with pytest.warns(UserWarning, match=r"backend is LEVELDB, but .* is LMDB and is read as such"):
        layer = make_layer(text(database, extra="").replace("LMDB", "LEVELDB"))
    assert labels(layer, 1) == [0, 1, 2, 3]


def test_fields_without_effect_warn(database: Path, make_layer: MakeLayer) -> None:
    with pytest.warns(UserWarning, match=r"rand_skip has no effect"):
        make_layer(text(database, extra="rand_skip: 3"))
    with pytest.warns(UserWarning, match=r"force_color .* encoded"):
        make_layer(text(database, transform="transform_param { force_color: true }"))


def test_errors_of_setup_have_a_place(database: Path, tmp_path: Path, make_layer: MakeLayer) -> None:
    with pytest.raises(DataError, match=r'layer "d" \(Data\): .*absent: no such database'):
        make_layer(text(tmp_path / "absent"))
    with pytest.raises(NetError, match=r"batch_size is 0"):
        make_layer(text(database, batch=0))
    with pytest.raises(DataError, match=r"expected at least 50x50 for crop_size 50"):
        make_layer(text(database, transform="transform_param { crop_size: 50 }"))


@pytest.mark.parametrize(
    ("size", "ahead", "taken"),
    [(10**9, "", 5 * (2 * 4 + 200) * 10**9), (10**6, "prefetch: 2000000", 2000001 * (2 * 4 + 200) * 10**6)],
)
def test_batches_that_no_memory_holds_are_refused_by_name(tmp_path: Path, size: int, ahead: str, taken: int) -> None:
    write_images(tmp_path / "db", noise_images(shape=(1, 1, 1)))
    (tmp_path / "net").write_text(f"layer {{ name: 'd' {text(tmp_path / 'db', size, ahead)} }}")
    batches = re.escape(f"holding batches of ({size}, 1, 1, 1) and ({size},) takes {taken} bytes")
    with pytest.raises(NetError, match=rf'^{tmp_path}/net:1: layer "d" \(Data\): {batches}, and \d+ are free; make'):
        Net(tmp_path / "net")
