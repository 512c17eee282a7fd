"""What steps take is put on a line over operations; the measurement runs what is trained."""

from pathlib import Path

import pytest

from caffe_compat.data.lmdb import LMDBReader
from caffe_compat.errors import DataError
from reproduce.cost import Cost, cost_of
from reproduce.measure import Speed, Timing, measure, speed, write_noise
from reproduce.mode import Mode
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.treatments import base_half, transfer


def cost(step_flops: float, test_flops: float = 1.0) -> Cost:
    return Cost(
        iterations=10, step_flops=step_flops, test_batches=3, test_flops=test_flops, snapshot_bytes=0, snapshots=1
    )


def test_two_networks_make_a_line() -> None:
    """A step takes 2 s and 0.5 s for each operation; a test 0.25 s for each."""
    found = speed([cost(8, 4), cost(2, 4)], [Timing(6.0, 1.0), Timing(3.0, 1.0)])
    assert found == Speed(2.0, 0.5, 0.25)
    assert found.seconds(cost(4, 4)) == 10 * (2 + 4 * 0.5) + 3 * 4 * 0.25


@pytest.mark.parametrize(("few", "seconds"), [(8, 6.0), (2, 6.5), (2, 0.5)])
def test_what_makes_no_line_counts_by_operations_alone(few: float, seconds: float) -> None:
    """Equal networks, one that takes longer for less, and a line that would begin below zero."""
    assert speed([cost(8), cost(few)], [Timing(6.0, 1.0), Timing(seconds, 1.0)]) == Speed(0.0, 0.75, 1.0)


def test_some_steps_of_a_miniature_are_timed(tmp_path: Path) -> None:
    networks = [base_half("0", "A"), transfer("0", "A", "A", 7)]
    settings = RunSettings(PROTOTXT / "miniature" / "glyphs", outputs=2, size_px=32, solver_mode="CPU")
    folders = [write_run_folder(network, settings, tmp_path) for network in networks]
    write_noise(networks, tmp_path / "data", channels=3, size_px=32)
    before = sorted(path.name for folder in folders for path in folder.iterdir())
    timings = measure(folders, "cpu", Mode(), seconds=0.2)
    assert all(0 < timing.test_s < 60 and 0 < timing.step_s < 60 for timing in timings)
    assert speed([cost_of(folder, 3, 32) for folder in folders], timings).seconds(cost_of(folders[0], 3, 32)) > 0
    assert sorted(path.name for folder in folders for path in folder.iterdir()) == before


def test_tables_count_before_the_first_step() -> None:
    assert Timing(2.0, 3.0, 5.0).seconds(cost(8)) == 5 + 10 * 2 + 3 * 3


def test_with_tables_a_network_is_measured_as_it_is_trained(tmp_path: Path) -> None:
    """Frozen layers are looked up, of as many images as there are, where these are not too many for noise."""
    frozen = transfer("0", "A", "A", 7)
    settings = RunSettings(PROTOTXT / "miniature" / "glyphs", outputs=2, size_px=32, solver_mode="CPU", scale=1 / 70)
    folder = write_run_folder(frozen, settings, tmp_path)
    counts = {"half0A_train_lmdb": 3, "half0A_valid_lmdb": 10**9}
    write_noise([frozen], tmp_path / "data", channels=3, size_px=32, counts=counts)
    assert [len(LMDBReader(tmp_path / "data" / name)) for name in counts] == [3, 64]
    (timing,) = measure([folder], "cpu", Mode(fast=True), seconds=0.2)
    assert timing.tables_s > 0
    assert measure([folder], "cpu", Mode(), seconds=0.2)[0].tables_s == 0


def test_a_measurement_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(DataError, match="--dry-run: the measurement on cpu failed: killed"):
        measure([tmp_path], "cpu", Mode())
