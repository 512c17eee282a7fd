"""A blob as pycaffe shows it."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.net.blob_engine import ParamBlob, TensorBlob
from caffe_compat.pycaffe.blob import Blob

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def blob_of(*shape: int, device: str = "cpu") -> tuple[Blob, TensorBlob]:
    """A facade blob, and the engine's below it."""
    inner = TensorBlob(shape, torch.zeros(0, device=device))
    return Blob(inner), inner


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("which", ["data", "diff"])
def test_what_is_written_reaches_the_engine(device: str, which: str) -> None:
    blob, inner = blob_of(2, 3, device=device)
    getattr(blob, which)[...] = [[1, 2, 3], [4, 5, 6]]
    getattr(blob, which)[1, 2] = 7
    blob.write_back()  # as before each pass
    assert getattr(inner, which).tolist() == [[1, 2, 3], [4, 5, 7]]
    assert getattr(blob, which).tolist() == [[1, 2, 3], [4, 5, 7]]


def test_arrays_are_views_on_the_cpu() -> None:
    blob, inner = blob_of(2)
    view = blob.data
    inner.data.fill_(3)
    assert view.tolist() == [3, 3]
    assert blob.data.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "legacy"),
    [((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3), (2, 3, 1, 1)), ((), (1, 1, 1, 1)), ((7, 0, 2), (7, 0, 2, 1))],
)
def test_sizes(shape: tuple[int, ...], legacy: tuple[int, ...]) -> None:
    blob, _ = blob_of(*shape)
    assert blob.shape == shape
    assert blob.count == int(np.prod(shape, dtype=int))
    assert (blob.num, blob.channels, blob.height, blob.width) == legacy


@pytest.mark.parametrize("device", DEVICES)
def test_reshape_keeps_leading_values(device: str) -> None:
    blob, _ = blob_of(2, 3, device=device)
    blob.data[...] = [[1, 2, 3], [4, 5, 6]]
    blob.write_back()
    blob.reshape(2, 2)
    assert blob.data.tolist() == [[1, 2], [3, 4]]
    assert blob.shape == (2, 2)


def test_parameters() -> None:
    parameter = torch.nn.Parameter(torch.ones(4))
    blob = Blob(ParamBlob(parameter, (2, 2)))
    blob.data[0] = 5
    blob.diff[1] = 6
    assert parameter.tolist() == [5, 5, 1, 1]
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [0, 0, 6, 6]
    with pytest.raises(NetError, match=r"a parameter of shape \(2, 2\) cannot become \(4,\)"):
        blob.reshape(4)
