import pytest
import torch

from caffe_compat.ops.batch_transform import batch_transform, reference
from tests.ops.batch_transform_cases import BATCH_TRANSFORM_CASES, BatchTransformCase

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


CASE = BatchTransformCase((5, 3, 10, 13), (7, 9), "image")


def inputs(device: str, case: BatchTransformCase = CASE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    images, windows, mean = case.tensors()
    return images.to(device), windows.to(device), None if mean is None else mean.to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", BATCH_TRANSFORM_CASES, ids=str)
def test_equals_the_plain_twin_bit_for_bit(device: str, case: BatchTransformCase) -> None:
    images, windows, mean = inputs(device, case)
    got = batch_transform(images, windows, mean, case.scale, case.size)
    assert torch.equal(got, reference(images, windows, mean, case.scale, case.size))


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device: str) -> None:
    images, windows, values = inputs(device)
    batch_transform(images, windows, values, 1.0, (7, 9))
    torch.library.opcheck(torch.ops.caffe_compat.batch_transform, (images, windows, values, 0.5, 7, 9))


@pytest.mark.parametrize("device", DEVICES)
def test_empty_batch_and_views(device: str) -> None:
    images, windows, values = inputs(device)
    assert batch_transform(images[:0], windows[:0], values, 1.0, (7, 9)).shape == (0, 3, 7, 9)
    every_other = batch_transform(images[::2], windows[::2], values, 1.0, (7, 9))
    assert torch.equal(every_other, batch_transform(images, windows, values, 1.0, (7, 9))[::2])


def test_bad_arguments_are_named() -> None:
    images, windows, values = inputs("cpu")
    assert values is not None
    with pytest.raises(TypeError, match=r"images is Float .*expected uint8"):
        batch_transform(images.float(), windows, None, 1.0, (7, 9))
    with pytest.raises(ValueError, match=r"window of 11x9 does not fit"):
        batch_transform(images, windows, None, 1.0, (11, 9))
    with pytest.raises(ValueError, match=r"window 1 at \(3, 4\) of 8x9 leaves the image"):
        batch_transform(images, windows, None, 1.0, (8, 9))
    with pytest.raises(ValueError, match=r"mean is .*expected one value per channel"):
        batch_transform(images, windows, values[:2], 1.0, (7, 9))
    with pytest.raises(ValueError, match=r"windows is .*expected int32"):
        batch_transform(images, windows[:3], None, 1.0, (7, 9))
