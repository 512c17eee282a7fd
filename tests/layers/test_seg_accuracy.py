import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.seg_accuracy import SegAccuracy
from tests.layers.harness import check_layer, make_layer, noise, on_devices

SHAPES = ((2, 4, 3, 5), (2, 1, 3, 5))


def labels(device: str = "cpu", seed: int = 0, high: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, SHAPES[1], generator=generator).double().to(device)


def plainly(*batches: tuple[Tensor, Tensor], ignored: tuple[int, ...] = ()) -> list[float]:
    """Accuracy, mean recall, mean intersection over union, pixel by pixel."""
    matrix = np.zeros((4, 4))
    for scores, true in batches:
        for (n, _, h, w), label in np.ndenumerate(true.cpu().numpy().astype(int)):
            if label not in ignored:
                values = scores[n, :, h, w].tolist()
                matrix[label, max(range(4), key=lambda c: (values[c], c))] += 1
    recalls = [matrix[c, c] / matrix[c].sum() for c in range(4) if matrix[c].sum()]
    unions = [matrix[c].sum() + matrix[:, c].sum() - matrix[c, c] for c in range(4)]
    overlaps = [matrix[c, c] / u if u != matrix[c, c] else 1.0 for c, u in enumerate(unions)]
    return [np.trace(matrix) / matrix.sum(), float(np.mean(recalls)), float(np.mean(overlaps))]


@on_devices
@pytest.mark.parametrize("ignored", [(), (1,), (0, 2)])
def test_values(ignored: tuple[int, ...], device: str) -> None:
    fields = " ".join(f"ignore_label: {label}" for label in ignored)
    layer = make_layer(SegAccuracy, f"seg_accuracy_param {{ {fields} }}", *SHAPES, device=device)
    scores, true = noise(*SHAPES[0], device=device).detach().round(), labels(device)  # rounded: with ties
    for _ in range(2):
        assert layer(scores, true).flatten().tolist() == pytest.approx(plainly((scores, true), ignored=ignored))


def test_pixels_are_counted_on_without_reset() -> None:
    layer = make_layer(SegAccuracy, "seg_accuracy_param { reset: false }", *SHAPES)
    batches = [(noise(*SHAPES[0], seed=seed).detach(), labels(seed=seed)) for seed in range(3)]
    for number, batch in enumerate(batches, 1):
        assert layer(*batch).flatten().tolist() == pytest.approx(plainly(*batches[:number]))


def test_ignored_labels_may_lie_outside() -> None:
    layer = make_layer(SegAccuracy, "seg_accuracy_param { ignore_label: 255 }", *SHAPES)
    scores, true = noise(*SHAPES[0]).detach(), labels()
    true[0, 0, 0] = 255
    assert layer(scores, true).flatten().tolist() == pytest.approx(plainly((scores, true), ignored=(255,)))
    true[0, 0, 1, 0] = 4
    with pytest.raises(NetError, match="label 4 is out of range; expected 0 to 3"):
        layer(scores, true)


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(SegAccuracy, "", *SHAPES, device=device)
    check_layer(layer, noise(*SHAPES[0], device=device).detach(), labels(device), differentiable=False)


def test_refused_shapes() -> None:
    with pytest.raises(NetError, match=r"expected \(N, C, H, W\) and \(N, 1, H, W\)"):
        make_layer(SegAccuracy, "", SHAPES[0], (2, 1, 3, 4))
