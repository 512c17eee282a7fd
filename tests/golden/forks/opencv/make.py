"""Writes the .npz files beside it: `python make.py` in an environment with OpenCV 4.14 and NumPy, nothing of ours."""

# mypy: ignore-errors
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
rng = np.random.default_rng(0)


def write(name: str, layer_type: str, fields: str, *bottoms: np.ndarray) -> None:
    inputs = "".join(
        f'input: "x{i}" input_shape {{ {" ".join(f"dim: {size}" for size in bottom.shape)} }}\n'
        for i, bottom in enumerate(bottoms)
    )
    names = " ".join(f'bottom: "x{i}"' for i in range(len(bottoms)))
    text = f'{inputs}layer {{ name: "it" type: "{layer_type}" {names} top: "y" {fields} }}\n'
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    for i, bottom in enumerate(bottoms):
        net.setInput(bottom.astype(np.float32), f"x{i}")
    top = net.forward("it")
    arrays = {f"bottom{i}": bottom.astype(np.float32) for i, bottom in enumerate(bottoms)}
    np.savez_compressed(HERE / f"{name}.npz", type=layer_type, fields=fields, top=top, **arrays)
    print(name, top.shape)


def boxes(number: int, low: float, high: float) -> np.ndarray:
    corner = rng.uniform(0, 0.7, (number, 2))
    return np.concatenate((corner, corner + rng.uniform(low, high, (number, 2))), 1)


def rois(number: int, images: int, size: float) -> np.ndarray:
    corner = rng.uniform(0, 0.7, (number, 2))
    ends = np.minimum(corner + rng.uniform(0.02, 0.9, (number, 2)), 1)
    return np.column_stack((rng.integers(0, images, number), corner * size, ends * size))


def softmax(values: np.ndarray) -> np.ndarray:
    result = np.exp(values - values.max(-1, keepdims=True))
    return result / result.sum(-1, keepdims=True)


cv2.setNumThreads(1)
image, features = np.zeros((1, 3, 60, 80)), np.zeros((1, 2, 4, 5))  # only their sizes count
ssd = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
for name, fields in (
    ("prior_box", f"min_size: 20 max_size: 45 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false {ssd} step: 16"),
    ("prior_box_clip", f"min_size: 20 min_size: 50 aspect_ratio: 2 flip: false clip: true {ssd} offset: 0.25"),
    ("prior_box_steps", "min_size: 11 clip: false variance: 0.1 step_h: 12 step_w: 18"),
):
    write(name, "PriorBox", f"prior_box_param {{ {fields} }}", features, image)

priors, classes, images = 60, 4, 2
prior = np.stack((boxes(priors, 0.1, 0.3).flatten(), np.tile([0.1, 0.1, 0.2, 0.2], priors)))[None]
scores = softmax(2 * rng.standard_normal((images, priors, classes))).reshape(images, -1)
for name, shared, fields in (
    ("detection_output", True, "code_type: CENTER_SIZE keep_top_k: 40 confidence_threshold: 0.2"),
    ("detection_output_own_boxes", False, "code_type: CORNER keep_top_k: 200 confidence_threshold: 0.3"),
):
    offsets = rng.standard_normal((images, priors * (1 if shared else classes) * 4))
    nms = "nms_param { nms_threshold: 0.45 top_k: 25 }"
    common = f"num_classes: {classes} share_location: {str(shared).lower()} background_label_id: 0"
    write(name, "DetectionOutput", f"detection_output_param {{ {common} {nms} {fields} }}", offsets, scores, prior)

write(
    "roi_pooling",
    "ROIPooling",
    "roi_pooling_param { pooled_w: 5 pooled_h: 4 spatial_scale: 0.0625 }",
    rng.standard_normal((2, 3, 14, 17)),
    rois(9, 2, 230),
)
write(
    "psroi_pooling",
    "PSROIPooling",
    "psroi_pooling_param { spatial_scale: 0.0625 output_dim: 2 group_size: 3 }",
    rng.standard_normal((2, 18, 14, 17)),
    rois(9, 2, 230),
)
anchors = "ratio: 0.5 ratio: 1 ratio: 2 scale: 2 scale: 4"
write(
    "proposal",
    "Proposal",
    f"proposal_param {{ min_size: 1 {anchors} pre_nms_topn: 90 post_nms_topn: 20 nms_thresh: 0.6 }}",
    softmax(rng.standard_normal((1, 6, 5, 6, 2))).transpose(0, 4, 1, 2, 3).reshape(1, 12, 5, 6),
    rng.standard_normal((1, 24, 5, 6)) / 4,
    np.array([[80, 96, 1.0]]),
)
