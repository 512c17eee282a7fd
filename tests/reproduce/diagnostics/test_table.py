"""All measurements of a folder in one table."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.diagnostics.cka import linear_cka
from reproduce.diagnostics.measurements import COLUMNS
from reproduce.diagnostics.stitching import stitch
from reproduce.diagnostics.table import diagnose, spread
from reproduce.diagnostics.trained_network import TrainedNetwork
from reproduce.diagnostics.training_loss import final_training_loss
from reproduce.options import MEASURES, Options
from reproduce.publish import publish
from tests.reproduce.diagnostics.tiny_run import BASE_A, BASE_B, CROSS

Key = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def rows(out: Path) -> list[dict[str, str]]:
    said: list[str] = []
    diagnose(out, Options(out=out, stitch_iters=2, images=20), said.append)
    assert said[-1] == f"{out / 'diagnostics.csv'}: {len(list(csv.DictReader((out / 'diagnostics.csv').open())))} " + (
        "measurements of 3 networks"
    )
    return list(csv.DictReader((out / "diagnostics.csv").open()))


def values(rows: list[dict[str, str]], *measures: str) -> dict[Key, float]:
    keys = ("measure", "network", "reference", "layer")
    return {
        (row[keys[0]], row[keys[1]], row[keys[2]], row[keys[3]]): float(row["value"])
        for row in rows
        if row["measure"] in measures
    }


def test_the_columns_say_which_network(rows: list[dict[str, str]]) -> None:
    assert tuple(rows[0]) == COLUMNS
    assert ",".join(COLUMNS) == "measure,network,split,base,target,n,treatment,seed,reference,layer,value"
    (row,) = [row for row in rows if row["measure"] == "training_loss_gap"]
    assert list(row.values())[:-1] == [
        *("training_loss_gap", "transfer0A0B_1_1", "0", "A", "B", "1", "AnB", "", "half0B", "")
    ]


def test_the_gap_is_against_the_base_on_the_same_images(out: Path, rows: list[dict[str, str]]) -> None:
    losses = {network.name: final_training_loss(network, out) for network in (BASE_A, BASE_B, CROSS)}
    found = values(rows, "training_loss", "training_loss_gap")
    assert {key[1]: value for key, value in found.items() if key[0] == "training_loss"} == losses
    cross, base = losses["transfer0A0B_1_1"], losses["half0B"]
    assert cross is not None
    assert base is not None
    assert found["training_loss_gap", "transfer0A0B_1_1", "half0B", ""] == cross - base


def test_alignment_with_what_it_starts_from_and_with_its_own_base(out: Path, rows: list[dict[str, str]]) -> None:
    found = values(rows, "cka")
    opened = {network.name: TrainedNetwork(network, out) for network in (BASE_A, BASE_B, CROSS)}
    images, chosen = opened["half0B"].images, spread(24, 20)
    features = {name: list(trained.features(images, chosen)) for name, trained in opened.items()}
    assert list(found) == [
        ("cka", "transfer0A0B_1_1", reference, layer)
        for reference in ("half0A", "half0B")
        for layer in ("one", "two", "out")
    ]
    for (_, name, reference, layer), value in found.items():
        i = ("one", "two", "out").index(layer)
        assert value == pytest.approx(linear_cka(features[name][i], features[reference][i]), abs=1e-9)
    assert found["cka", "transfer0A0B_1_1", "half0B", "one"] < 0.999


def test_stitches_and_resets_are_of_the_halves(out: Path, rows: list[dict[str, str]]) -> None:
    stitched, resets = values(rows, "stitched_accuracy", "stitched_accuracy_start"), values(rows, "accuracy")
    assert len(stitched) == 2 * 2 * 2  # upper networks, cuts, before and after
    lower, upper = TrainedNetwork(BASE_A, out), TrainedNetwork(BASE_B, out)
    by_hand = stitch(lower, upper, upper.cuts()[1], iterations=2)
    assert stitched["stitched_accuracy_start", "half0B", "half0A", "two"] == by_hand.start
    assert stitched["stitched_accuracy", "half0B", "half0A", "two"] == by_hand.trained
    assert resets == {("accuracy", n.name, "", ""): TrainedNetwork(n, out).accuracy() for n in (BASE_A, BASE_B)}
    assert [key[3] for key in values(rows, "reinitialised_accuracy")] == ["one", "two", "out"] * 2


def test_they_stand_in_the_report_with_the_names_of_cuts(out: Path, rows: list[dict[str, str]], tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "run")
    (tmp_path / "run" / "settings.json").write_text('{"data": "lmdb:a,b", "prototxt": "nets"}')
    images = {
        "made": [],
        "classes": 4,
        "size": 8,
        "test_images": {},
        "same_numbers": False,
        "checks": {},
        "channels": 3,
    }
    (tmp_path / "run" / "data" / "images.json").write_text(json.dumps(images))
    publish(tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text()
    (gap,) = (float(row["value"]) for row in rows if row["measure"] == "training_loss_gap")
    assert f"base 0.000 at 0; transfer AnB {gap:.3f} at 1 one." in text
    assert "How alike layers of two networks are: linear CKA. transfer AnB, with base on the same images" in text
    assert "joined by least squares" in text
    assert '<th scope="col">n = 2 (two)</th>' in text
    assert "<td>diagnostics.csv</td>" in text or ">diagnostics.csv</th>" in text
    made = sorted(path.name for path in (tmp_path / "run" / "figures").glob("diagnostics_*.svg"))
    assert made == ["diagnostics_cka.svg", "diagnostics_layers.svg", "diagnostics_loss.svg"]


def test_measures_can_be_chosen(out: Path) -> None:
    assert {row.measure for row in diagnose(out, Options(out=out, measures=("loss",)), lambda text: None)} == {
        *("training_loss", "training_loss_gap")
    }
    assert Options().measures == MEASURES


def test_images_are_spread_over_the_database() -> None:
    assert spread(7, 3) == [0, 2, 4]
    assert spread(3, 7) == [0, 1, 2]


def test_nothing_finished_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no network is finished here; `status "):
        diagnose(tmp_path, Options(out=tmp_path))
