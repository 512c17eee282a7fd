import pytest
import torch

from caffe_compat import extension


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """One test body for both devices; CUDA is skipped where there is none."""
    if request.param == "cuda" and not (torch.cuda.is_available() and extension.has_cuda()):
        pytest.skip("no GPU, or the extension is built without CUDA")
    return torch.device(request.param)
