"""Two data sets as the halves: each has its own classes, images and mean; what does not go together is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.data import write_lmdb
from caffe_compat.data.datum import encode_datum, parse_datum
from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.data.mean import read_mean
from caffe_compat.errors import DataError
from reproduce.comparisons import lines
from reproduce.experiment import chosen_networks, run_settings
from reproduce.options import Options
from reproduce.pair import chosen_data, storage_of
from reproduce.publish import headline, settings_in_words
from reproduce.treatments import TREATMENTS
from tests.reproduce.test_treatments import result_of


@pytest.fixture
def two(tmp_path: Path) -> dict[str, str]:
    """A folder with classes c0 to c2, an LMDB with labels 0 and 1, of 8 x 8 pixels; one of 6 x 6, and a grey folder."""
    for name, shape in (("folder", (8, 8, 3)), ("grey", (8, 8))):
        for part in ("train", "val"):
            for c in range(3):
                (tmp_path / name / part / f"c{c}").mkdir(parents=True)
                cv2.imwrite(str(tmp_path / name / part / f"c{c}" / "i.png"), np.full(shape, 10 * c, np.uint8))
    for name, side in (("lmdb", 8), ("small", 6)):
        for part in ("train", "val"):
            images = [np.full((3, side, side), 100 + i, np.uint8) for i in range(4)]
            records = [(f"{i:02d}", encode_datum(image, i % 2)) for i, image in enumerate(images)]
            write_lmdb(tmp_path / f"{name}_{part}", records)
    pairs = {name: f"lmdb:{tmp_path}/{name}_train,{tmp_path}/{name}_val" for name in ("lmdb", "small")}
    return {"folder": str(tmp_path / "folder"), "grey": str(tmp_path / "grey"), **pairs}


def test_each_half_has_its_own_classes_and_mean(two: dict[str, str], tmp_path: Path) -> None:
    options = Options(data_a=two["folder"], data_b=two["lmdb"], treatments=("base", "AnB", "random"), layers=(3,))
    networks = chosen_networks(options)
    assert [network.name for network in networks] == [
        *("halfpairA", "halfpairB", "transferpairAB_1_3", "transferpairBA_1_3", "nolearn_1_3")
    ]
    data_set, path = chosen_data(options)
    made = data_set.prepare(
        path, networks, tmp_path / "out", download=False, tell=lambda text: None, storage=storage_of(options)
    )
    assert (made.classes, made.size_px, made.channels) == (5, 8, 3)
    assert made.test_images == {"halfpairA": 3, "halfpairB": 4, "whole": 7}
    for name, labels, mean in (
        ("halfpairA", {(0, 0), (1, 10), (2, 20)}, 10.0),
        ("halfpairB", {(0, 100), (1, 101), (0, 102), (1, 103)}, 101.5),
        ("whole", {(0, 0), (1, 10), (2, 20), (3, 100), (4, 101), (3, 102), (4, 103)}, (30 + 406) / 7),
    ):
        records = [parse_datum(record.value) for record in LMDBReader(tmp_path / "out" / f"{name}_train_lmdb")]
        assert {(datum.label, int(datum.array()[0, 0, 0])) for datum in records} == labels
        assert read_mean(tmp_path / "out" / f"{name}_mean.binaryproto") == pytest.approx(mean)


def check(options: Options) -> None:
    data_set, path = chosen_data(options)
    data_set.check(path)


def test_images_that_do_not_go_together_are_refused(two: dict[str, str]) -> None:
    one = f"--data-a {two['folder']}"
    cases = {
        Options(data_a=two["folder"], data_b=two["small"]): "has images of 8 x 8 pixels with 3 channels, .* of 6 x 6",
        Options(data_a=two["folder"], data_b=two["grey"]): "3 channels, .* 1 channel; .*: make both grey, or both col",
        Options(data_a=two["folder"], data_b="imagenet:x"): "imagenet cannot be one of two; choose folders or LMDBs",
        Options(data_a=two["folder"]): f"{one}: is one half; give --data-b, too, or --data for both",
        Options(data_b=two["folder"]): "is one half; give --data-a, too",
        Options(data_a="x", data_b="y", split="1"): "--split 1: with --data-a and --data-b these are the halves; leave",
        Options(data="imagenet:x", resize=32): "--data imagenet:x: has one size; leave --resize out",
    }
    for options, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            check(options)
        assert "\n" not in str(caught.value)


def test_images_are_resized_where_that_is_said(two: dict[str, str]) -> None:
    settings = run_settings(Options(data_a=two["folder"], data_b=two["small"], resize=32), None)
    assert (settings.channels, settings.size_px, settings.prototxt.name) == (3, 32, "photos")
    with pytest.raises(DataError, match="images of 8 pixels; our networks take 28, 32, or 227 and more: give --resize"):
        run_settings(Options(data_a=two["folder"], data_b=two["lmdb"]), None)


def test_what_is_said_of_a_pair() -> None:
    noted = {"data": "glyphs", "split": "0", "data_a": "dogs", "data_b": "lmdb:x,y", "resize": 32}
    networks = TREATMENTS["base"].networks("pair", ()) + TREATMENTS["AnB"].networks("pair", (1,))
    results = [result_of(network, 0.5 + 0.1 * network.n) for network in networks]
    assert headline(noted, results, 4).startswith(
        "This run trained 4 of 4 networks on dogs as A and lmdb:x,y as B, not on the paper's ImageNet; of the paper's"
    )
    assert settings_in_words(noted) == {"data-a": "dogs", "data-b": "lmdb:x,y", "resize": "32"}
    found = lines(results)
    assert {line.halves for line in found} == {"pair"}
    assert found[-1].difference
    assert found[-1].difference.mean == pytest.approx(0.1)
