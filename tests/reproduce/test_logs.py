"""Results from logs alone, in the authors' naming of folders and files, and in their Caffe's words."""

import gzip
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.logs import LOG_NAME, read_folder


def lines_of_2014(day: int, tests: dict[int, tuple[float, float]], losses: dict[int, float]) -> str:
    """A log in the words of Caffe as it was in April 2014."""
    text = ""
    for i, (iteration, loss) in enumerate(losses.items()):
        text += f"I04{day:02} 06:46:{i:02}.716258 23304 solver.cpp:74] Iteration {iteration}, loss = {loss}\n"
    for i, (iteration, (accuracy, loss)) in enumerate(tests.items()):
        head = f"I04{day:02} 07:00:{i:02}.000001 23304 solver.cpp"
        text += f"{head}:135] Iteration {iteration}, Testing net\n{head}:172] Test score #0: {accuracy}\n"
        text += f"{head}:172] Test score #1: {loss}\n"
    return text


def put(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        (folder / name).write_text(text)


def test_several_files_are_one_run_and_the_later_time_counts(tmp_path: Path) -> None:
    first = lines_of_2014(3, {0: (0.1, 5.0), 1000: (0.9, 4.0)}, {20: 6.5, 1020: 9.0})
    second = lines_of_2014(9, {1000: (0.3, 3.0), 2000: (0.5, 2.5)}, {1020: 5.5})
    folder = tmp_path / "transfer0A0B_1_4"
    put(folder, "140410_100000_transfer0A0B.o239566.gz", second)
    put(folder, "140403_063910_transfer0A0B.o227963.gz", first)
    put(folder, "imagenet_solver.prototxt", "max_iter: 2000")
    put(tmp_path / "nolearn_1_3", "140403_063910_nolearn.o1.gz", lines_of_2014(3, {0: (0.25, 1.0)}, {}))
    put(tmp_path / "half0A-seed2", "train.log", lines_of_2014(3, {0: (0.5, 1.0)}, {}))
    (tmp_path / "plots").mkdir()
    found = read_folder(tmp_path)
    assert found.files == 4
    assert found.problems == {}
    assert [result.network for result in found.results] == ["transfer0A0B_1_4", "nolearn_1_3", "half0A-seed2"]
    (result,) = [result for result in found.results if result.network == "transfer0A0B_1_4"]
    assert (result.split, result.base, result.target, result.n, result.treatment) == ("0", "A", "B", 4, "AnB")
    assert result.accuracy == pytest.approx((0.1 + 0.3 + 0.5) / 3)
    assert (result.accuracy_final, result.loss) == (0.5, 2.5)
    (course,) = [course for course in found.courses if course.network == result.network]
    assert course.loss == [(20, 6.5), (1020, 5.5)]
    assert course.accuracy == [(0, 0.1), (1000, 0.3), (2000, 0.5)]


def test_logs_without_a_result_are_named(tmp_path: Path) -> None:
    put(tmp_path / "half0A", "train.log", lines_of_2014(3, {0: (0.5, 1.0)}, {}))
    put(tmp_path / "half0B", "train.log", "killed\n")
    (tmp_path / "half1A").mkdir()
    found = read_folder(tmp_path)
    assert [result.network for result in found.results] == ["half0A"]
    assert found.problems["half0B"] == "no test in its logs (train.log)"
    assert found.problems["half1A"].startswith("no log in its folder; expected files as train.log")


def test_a_folder_without_networks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder in it is named as a network"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    [
        "train.log",
        "caffe.INFO",
        "caffe.host.user.log.INFO.20140403-064622.23304",
        "140403_063910_half0A.o227963.gz",
        "140822_161616_reduced-0100-nom.o308423.gz",
        "catlog.oMANUAL.gz",
    ],
)
def test_names_of_logs(name: str) -> None:
    assert LOG_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["train.jsonl", "solver.prototxt", "caffe_train_iter_700.caffemodel", "done"])
def test_other_files_are_no_logs(name: str) -> None:
    assert not LOG_NAME.fullmatch(name)
