"""Single nets against Caffe 1.0, through pycaffe: every layer type, forward and backward."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from caffe_compat import pycaffe
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.net.blobs import Place
from caffe_compat.tools._golden import check_case, find_cases

GOLDEN = Path(__file__).parent / "golden"
CASES = find_cases(GOLDEN, ("net",))


@pytest.fixture(params=["cpu", "apart", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The CPU; the CPU as if the host could not reach its memory, as on a GPU; a GPU."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        pycaffe.set_mode_gpu()
    if request.param == "apart":
        monkeypatch.setattr(BlobEngine, "place_of", lambda _, net: Place(net.device, net.dtype, apart=True))
    yield request.param
    pycaffe.set_mode_cpu()


def test_all_cases_are_here() -> None:
    assert len(CASES) >= 206


@pytest.mark.filterwarnings("ignore:.*(overwrites bottom 0|has no clip_param)")
@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_equals_caffe(case: Path, device: str) -> None:
    differences = check_case(case)
    assert differences
    assert not [d for d in differences if not d.passed]
