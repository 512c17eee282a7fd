import pytest
import torch


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """One test body for both devices; CUDA is skipped where there is none."""
    if request.param == "cuda":
        extension = pytest.importorskip("caffe_compat._C")
        if not torch.cuda.is_available() or not extension.has_cuda:
            pytest.skip("no GPU, or the extension is built without CUDA")
    return torch.device(request.param)
