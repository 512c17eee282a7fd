"""Random calls on random nets against Caffe 1.0: every data and diff after every call."""

from pathlib import Path

import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import NetError
from tests.pycaffe.sequences import REFUSED, SEEDS, samples

EXPECTED = np.load(Path(__file__).parents[1] / "golden" / "pycaffe" / "expected.npz")
# Both compute in float32, in other orders, through up to ten layers and nine calls.
RELATIVE, OF_THE_LARGEST = 1e-3, 1e-4


@pytest.mark.filterwarnings("ignore:.*gradient in place is not that of")
@pytest.mark.parametrize("seed", SEEDS)
def test_equals_caffe(seed: int) -> None:
    found = samples(caffe, seed)
    expected = EXPECTED[str(seed)]
    assert len(found) == len(expected)
    for (place, ours), theirs in zip(found.items(), expected, strict=True):
        assert ours[0] == theirs[0], f"{place}: {ours[0]:g} values, in Caffe {theirs[0]:g}"
        scale = max(1.0, float(np.abs(theirs[2:]).max()))
        assert np.allclose(ours[2:], theirs[2:], rtol=RELATIVE, atol=OF_THE_LARGEST * scale, equal_nan=True), place


@pytest.mark.parametrize("seed", REFUSED)
def test_caffe_stops_and_so_do_we(seed: int) -> None:
    with pytest.raises(NetError):
        samples(caffe, seed)


def test_the_calls_cover_what_they_should() -> None:
    calls = {place.split()[1].split("/")[0] for seed in SEEDS[:12] for place in samples(caffe, seed)}
    assert {"call_reshape", "call_share", "call_save_and_load", "call_backward_between"} <= calls
