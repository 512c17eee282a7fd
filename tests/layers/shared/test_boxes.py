from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from caffe_compat.layers.shared import boxes
from tests.layers.harness import on_devices

Array = npt.NDArray[np.float32]


def drawn(count: int, seed: int) -> Tensor:
    """Boxes that overlap, touch, lie apart, are turned inside out or without area."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-0.2, 1.2, (count, 4)).astype(np.float32)
    values[::2] = np.sort(values[::2].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    values[3] = values[0][[2, 1, 2, 3]]
    return torch.from_numpy(values)


def one_overlap(first: Array, second: Array, extra: int) -> float:
    """SSD's JaccardOverlap of two boxes in plain float32 steps."""
    if second[0] > first[2] or second[2] < first[0] or second[1] > first[3] or second[3] < first[1]:
        shared = np.zeros(4, np.float32)
    else:
        shared = np.concatenate((np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])))
    width, height = shared[2] - shared[0] + np.float32(extra), shared[3] - shared[1] + np.float32(extra)
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    return float(inside / (one_area(first, extra) + one_area(second, extra) - inside))


def one_area(box: Array, extra: int) -> np.float32:
    if box[2] < box[0] or box[3] < box[1]:
        return np.float32(0)
    return np.float32((box[2] - box[0] + np.float32(extra)) * (box[3] - box[1] + np.float32(extra)))


@pytest.mark.parametrize("pixels", [False, True])
def test_areas_and_overlaps_are_those_of_plain_steps(pixels: bool) -> None:
    first, second = drawn(12, 0) * (20 if pixels else 1), drawn(15, 1) * (20 if pixels else 1)
    second[4] = first[2]
    found = boxes.overlaps(first.unsqueeze(1), second.unsqueeze(0), pixels)
    expected = [[one_overlap(a, b, int(pixels)) for b in second.numpy()] for a in first.numpy()]
    assert found.tolist() == expected
    assert boxes.areas(first, pixels).tolist() == [float(one_area(a, int(pixels))) for a in first.numpy()]


def test_boxes_apart_share_a_pixel_in_pixels_as_in_ssd() -> None:
    apart = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6]])
    assert boxes.overlaps(apart[0], apart[1]).item() == 0
    assert boxes.overlaps(apart[0], apart[1], pixels=True).item() == pytest.approx(1 / 7)


def test_clip() -> None:
    box = torch.tensor([-0.5, 0.25, 1.5, 3.0])
    assert boxes.clip(box).tolist() == [0, 0.25, 1, 1]
    assert boxes.clip(box * 10, width=12, height=7).tolist() == [0, 2.5, 12, 7]


def test_project_and_coverage() -> None:
    frame = torch.tensor([0.2, 0.0, 0.6, 0.8])
    given = torch.tensor([[0.1, 0.2, 0.4, 0.4], [0.7, 0.1, 0.9, 0.3], [0.2, 0.4, 0.6, 0.9], [0.6, 0.0, 0.8, 0.8]])
    inside, meets = boxes.project(given, frame)
    assert meets.tolist() == [True, False, True, False]
    torch.testing.assert_close(inside[0], torch.tensor([0, 0.25, 0.5, 0.5]))
    torch.testing.assert_close(inside[2], torch.tensor([0, 0.5, 1, 1]))
    torch.testing.assert_close(boxes.coverage(given, frame), torch.tensor([2 / 3, 0, 0.8, 0]))


def corner(box: Array, prior: Array) -> list[np.float32]:
    return [box[i] - prior[i] for i in range(4)]


def corner_size(box: Array, prior: Array) -> list[np.float32]:
    sides = prior[2] - prior[0], prior[3] - prior[1]
    return [(box[i] - prior[i]) / sides[i % 2] for i in range(4)]


def center_size(box: Array, prior: Array) -> list[np.float32]:
    sides = prior[2] - prior[0], prior[3] - prior[1]
    two = np.float32(2)
    centers = [((box[i] + box[i + 2]) / two - (prior[i] + prior[i + 2]) / two) / sides[i] for i in (0, 1)]
    return centers + [np.log((box[i + 2] - box[i]) / sides[i]) for i in (0, 1)]


CODES = [("CORNER", corner), ("CORNER_SIZE", corner_size), ("CENTER_SIZE", center_size)]


@on_devices
@pytest.mark.parametrize(("code_type", "definition"), CODES, ids=[name for name, _ in CODES])
@pytest.mark.parametrize("with_variances", [True, False])
def test_encode_and_decode(
    code_type: str, definition: Callable[[Array, Array], list[np.float32]], with_variances: bool, device: str
) -> None:
    values, priors = drawn(20, 2)[::2].to(device), drawn(20, 3)[::2].to(device)
    priors[:, 2:] += 0.1
    variances = torch.tensor([0.1, 0.1, 0.2, 0.25], device=device).expand(10, 4) if with_variances else None
    found = boxes.encode(values, priors, variances, code_type)
    expected = np.array([definition(a, b) for a, b in zip(values.cpu().numpy(), priors.cpu().numpy(), strict=True)])
    if variances is not None:
        expected /= variances.cpu().numpy()
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=2e-7)
    # back to the boxes: a few roundings
    torch.testing.assert_close(boxes.decode(found, priors, variances, code_type), values, rtol=0, atol=2e-6)


def test_decode_of_center_size_by_hand() -> None:
    prior, offsets = torch.tensor([0.2, 0.2, 0.6, 1.0]), torch.tensor([1.0, -1.0, 0.0, 2.0])
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2])
    # centre (0.4, 0.6) moved by 0.1 * (0.4, -0.8), width 0.4 kept, height 0.8 times exp(0.4)
    half = 0.4 * np.exp(0.4)
    expected = torch.tensor([0.44 - 0.2, 0.52 - half, 0.44 + 0.2, 0.52 + half], dtype=torch.float32)
    torch.testing.assert_close(boxes.decode(offsets, prior, variances, "CENTER_SIZE"), expected)
