import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.detection_output import DetectionOutput
from caffe_compat.layers.detection_output_extended import DetectionOutputExtended
from tests.layers.harness import make_layer, noise, on_devices, run

#: images, height, width and anchors of the map
SIZES = N, H, W, A = (2, 3, 4, 2)
SHAPES = ((N, H, W, A * 4), (N, H * W * A * 2), (1, 2, H * W * A * 4))
FIELDS = "num_classes: 2 background_label_id: -1 confidence_threshold: 0.3 nms_param { nms_threshold: 0.4 }"


def bottoms(device: str) -> list[torch.Tensor]:
    """Offsets, scores, priors: each prior is a place of the map."""
    priors = torch.empty(H, W, A, 4, dtype=torch.float64)
    for y, x, a in np.ndindex(H, W, A):
        priors[y, x, a] = torch.tensor([x / W, y / H, (x + 1 + a) / W, (y + 1 + a) / H])
    both = torch.stack((priors.flatten(), torch.full((priors.numel(),), 0.1, dtype=torch.float64)))[None]
    scores = noise(N, H * W * A, 2, seed=1).softmax(2).flatten(1)
    return [t.detach().to(device) for t in (noise(*SHAPES[0]), scores, both)]


@on_devices
def test_rows_of_detection_output_with_anchor_and_place(device: str) -> None:
    text = f"detection_output_param {{ {FIELDS} }}"
    given = bottoms(device)
    (top,) = run(make_layer(DetectionOutputExtended, text, *SHAPES, device=device), *given)
    plain = text.replace("background_label_id: -1", "")
    (expected,) = run(make_layer(DetectionOutput, plain, *SHAPES, device=device), *given)
    assert top.shape == (1, 1, expected.shape[2], 10)
    assert expected.shape[2] > 4
    assert torch.equal(top[..., :7], expected)
    scores = given[1].view(N, H, W, A, 2)
    for image, label, score, *_, anchor, x, y in top[0, 0].tolist():
        assert scores[int(image), int(y), int(x), int(anchor), int(label)] == score


def test_nothing_found() -> None:
    text = f"detection_output_param {{ {FIELDS.replace('0.3', '2')} }}"
    (top,) = run(make_layer(DetectionOutputExtended, text, *SHAPES), *bottoms("cpu"))
    assert top.tolist() == [[[[0.0, *[-1.0] * 9], [1.0, *[-1.0] * 9]]]]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("num_classes: 3", SHAPES, "num_classes 3, share_location True; expected 2 and true"),
        (FIELDS, ((N, H * W * A * 4), *SHAPES[1:]), r"expected \(N, H, W, A 4\)"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(DetectionOutputExtended, f"detection_output_param {{ {fields} }}", *shapes)
