"""What is copied from one file or several, and what the log says of the rest."""

import io
import re
from pathlib import Path

import pytest

from caffe_compat import Net, NetError
from caffe_compat.proto import parse_net
from caffe_compat.solver.copy_weights import copy_weights
from caffe_compat.solver.log import Log, WeightsLog
from tests.solver.conftest import messages


def net(*names: str, value: float = 0.0) -> Net:
    """A Parameter layer for each name."""
    layer = 'layer {{ name: "{0}" type: "Parameter" top: "{0}" parameter_param {{ shape {{ dim: 2 }} }} }}'
    made = Net(parse_net("\n".join(layer.format(name) for name in names)))
    for parameter in made.parameters():
        parameter.data.fill_(value)
    return made


def values(n: Net) -> dict[str, list[float]]:
    return {name: blobs[0].tolist() for name, blobs in n.params.items()}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net("a", "b", value=1).save("ab")
    net("b", "c", value=2).save("bc")
    net("a", "b", "c", value=3).save("abc")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("paths", "held", "lines"),
    [
        (["abc"], {"a": 3, "b": 3, "c": 3}, []),
        (["ab", "bc"], {"a": 1, "b": 2, "c": 2}, []),
        (["ab"], {"a": 1, "b": 1, "c": 0}, ['ab: left as they were, as no blobs came for them: "c"']),
        (["bc", "bc"], {"a": 0, "b": 2, "c": 2}, ['bc, bc: left as they were, as no blobs came for them: "a"']),
    ],
)
def test_several_files_together(paths: list[str], held: dict[str, float], lines: list[str]) -> None:
    n, stream = net("a", "b", "c"), io.StringIO()
    copy_weights(n, paths, WeightsLog(stream))
    assert values(n) == {name: [value] * 2 for name, value in held.items()}
    assert messages(stream) == lines


@pytest.mark.usefixtures("files")
def test_a_solver_says_it_in_caffes_words() -> None:
    stream = io.StringIO()
    copy_weights(net("b", "new"), ["bc", "abc"], Log(stream))
    said = [re.sub(r"^(\w)\d{4} [\d:.]+ +\d+ ", r"\1 ", line) for line in stream.getvalue().splitlines()]
    assert said == [
        "I solver.cpp:72] Finetuning from bc",
        "I net.cpp:746] Ignoring source layer c",
        "I solver.cpp:72] Finetuning from abc",
        "I net.cpp:746] Ignoring source layer a",
        "I net.cpp:746] Ignoring source layer c",
        'W weights.py:1] bc, abc: ignored, as the net has no such layer: "c", "a", "c"; left as they were, as no blobs '
        'came for them: "new"',
    ]


@pytest.mark.usefixtures("files")
def test_strict() -> None:
    copy_weights(net("a", "b", "c"), ["ab", "bc"], WeightsLog(enabled=False), strict=True)
    with pytest.raises(NetError, match=r'^ab, ab: does not fit <message> wholly: left as .* came for them: "c"$'):
        copy_weights(net("a", "b", "c"), ["ab", "ab"], WeightsLog(enabled=False), strict=True)


@pytest.mark.usefixtures("files")
def test_a_file_of_which_nothing_fits_is_refused() -> None:
    with pytest.raises(NetError, match=r'^bc: nothing fits <message>: the file has blobs for the layers "b", "c"'):
        copy_weights(net("a"), ["ab", "bc"], WeightsLog(enabled=False))
