"""A blob as pycaffe shows it."""

import numpy as np
import pytest
import torch

from caffe_compat.net.blobs import Place, TensorBlob
from caffe_compat.pycaffe.blob import Blob


def blob_of(*shape: int, apart: bool = False) -> tuple[Blob, TensorBlob]:
    """A facade blob, and the engine's below it; ``apart``: as on a GPU."""
    inner = TensorBlob(shape, Place(torch.device("cpu"), torch.float32, apart))
    return Blob(inner), inner


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("which", ["data", "diff"])
def test_what_is_written_reaches_the_engine(apart: bool, which: str) -> None:
    blob, inner = blob_of(2, 3, apart=apart)
    getattr(blob, which)[...] = [[1, 2, 3], [4, 5, 6]]
    getattr(blob, which)[1, 2] = 7
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


@pytest.mark.parametrize("apart", [False, True])
def test_reshape_keeps_leading_values(apart: bool) -> None:
    blob, _ = blob_of(2, 3, apart=apart)
    blob.data[...] = [[1, 2, 3], [4, 5, 6]]
    blob.reshape(4)
    assert blob.data.tolist() == [1, 2, 3, 4]
    blob.reshape(1, 6)
    assert blob.data.tolist() == [[1, 2, 3, 4, 5, 6]]
