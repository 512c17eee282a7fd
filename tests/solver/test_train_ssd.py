"""A small SSD, trained from a database of drawn boxes to the mean average precision in the log."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat import random
from caffe_compat.data import encode_image, write_lmdb
from caffe_compat.data.annotations import encode_annotated
from caffe_compat.proto import parse_message
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log, Solver

SIDE, IMAGES, CLASSES = 48, 24, 3  # classes: background, bright boxes, dark boxes
STEPS = 40

DATA = """
layer {{
  name: "data" type: "AnnotatedData" top: "data" top: "label" include {{ phase: {phase} }}
  transform_param {{
    mean_value: 128 scale: 0.01 {transform}
    resize_param {{ resize_mode: WARP height: 48 width: 48 interp_mode: LINEAR interp_mode: AREA }}
    emit_constraint {{ emit_type: CENTER }}
  }}
  data_param {{ source: "boxes_db" batch_size: 8 backend: LMDB }}
  annotated_data_param {{ {samplers} }}
}}
"""
TRAIN_DATA = DATA.format(
    phase="TRAIN",
    transform="mirror: true distort_param { brightness_prob: 0.5 brightness_delta: 20 } "
    "expand_param { prob: 0.3 max_expand_ratio: 1.5 }",
    samplers="batch_sampler { max_sample: 1 max_trials: 1 } batch_sampler { sampler { min_scale: 0.7 } "
    "sample_constraint { min_jaccard_overlap: 0.1 } max_sample: 1 max_trials: 20 }",
)
TEST_DATA = DATA.format(phase="TEST", transform="", samplers="")


def convolution(name: str, bottom: str, outputs: int, stride: int = 1, relu: bool = True) -> str:
    text = (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ '
        f'num_output: {outputs} kernel_size: 3 pad: 1 stride: {stride} weight_filler {{ type: "xavier" }} }} }}\n'
    )
    return text + f'layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}\n' * relu


def head(source: str, size: int) -> str:
    """Offsets, scores and priors of a map: two priors in each place."""
    text = ""
    for kind, outputs in (("loc", 2 * 4), ("conf", 2 * CLASSES)):
        name = f"{source}_{kind}"
        text += convolution(name, source, outputs, relu=False) + (
            f'layer {{ name: "{name}_perm" type: "Permute" bottom: "{name}" top: "{name}_perm" '
            "permute_param { order: 0 order: 2 order: 3 order: 1 } }\n"
            f'layer {{ name: "{name}_flat" type: "Flatten" bottom: "{name}_perm" top: "{name}_flat" }}\n'
        )
    return text + (
        f'layer {{ name: "{source}_prior" type: "PriorBox" bottom: "{source}" bottom: "data" top: "{source}_prior" '
        f"prior_box_param {{ min_size: {size} max_size: {1.4 * size:g} variance: 0.1 variance: 0.1 variance: 0.2 "
        "variance: 0.2 clip: false } }\n"
    )


def concat(kind: str, axis: int) -> str:
    suffix = "" if kind == "prior" else "_flat"
    bottoms = " ".join(f'bottom: "{source}_{kind}{suffix}"' for source in ("c3", "c4"))
    return f'layer {{ name: "{kind}" type: "Concat" {bottoms} top: "{kind}" concat_param {{ axis: {axis} }} }}\n'


NET = (
    TRAIN_DATA
    + TEST_DATA
    + convolution("c1", "data", 8, 2)
    + convolution("c2", "c1", 16, 2)
    + convolution("c3", "c2", 16, 2)
    + convolution("c4", "c3", 16, 2)
    + head("c3", 14)
    + head("c4", 22)
    + concat("loc", 1)
    + concat("conf", 1)
    + concat("prior", 2)
    + f"""
layer {{
  name: "loss" type: "MultiBoxLoss" bottom: "loc" bottom: "conf" bottom: "prior" bottom: "label" top: "loss"
  include {{ phase: TRAIN }} propagate_down: true propagate_down: true propagate_down: false propagate_down: false
  loss_param {{ normalization: VALID }}
  multibox_loss_param {{
    num_classes: {CLASSES} code_type: CENTER_SIZE overlap_threshold: 0.5 neg_pos_ratio: 3 mining_type: MAX_NEGATIVE
  }}
}}
layer {{ name: "scores" type: "Reshape" bottom: "conf" top: "scores" include {{ phase: TEST }}
  reshape_param {{ shape {{ dim: 0 dim: -1 dim: {CLASSES} }} }} }}
layer {{ name: "softmax" type: "Softmax" bottom: "scores" top: "softmax" include {{ phase: TEST }}
  softmax_param {{ axis: 2 }} }}
layer {{ name: "flat" type: "Flatten" bottom: "softmax" top: "flat" include {{ phase: TEST }} }}
layer {{ name: "out" type: "DetectionOutput" bottom: "loc" bottom: "flat" bottom: "prior" top: "out"
  include {{ phase: TEST }} detection_output_param {{ num_classes: {CLASSES} code_type: CENTER_SIZE keep_top_k: 20
    confidence_threshold: 0.01 nms_param {{ nms_threshold: 0.45 top_k: 100 }} }} }}
layer {{ name: "detection_eval" type: "DetectionEvaluate" bottom: "out" bottom: "label" top: "detection_eval"
  include {{ phase: TEST }} detection_evaluate_param {{ num_classes: {CLASSES} }} }}
"""
)
SOLVER = f"""
net: "net.prototxt" type: "Adam" base_lr: 0.005 momentum: 0.9 lr_policy: "fixed" max_iter: {STEPS} display: 10
average_loss: 10 random_seed: 3 snapshot_after_train: false
test_iter: {IMAGES // 8} test_interval: {STEPS} eval_type: "detection" ap_version: "11point" show_per_class_result: true
"""


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    with random.scope():
        yield


def draw(rng: np.random.Generator) -> bytes:
    """A gray image with one to three boxes, bright ones of label 1 and dark ones of label 2."""
    image = rng.integers(110, 146, (SIDE, SIDE, 3)).astype(np.uint8)
    boxes = []
    for corner in rng.permutation(4)[: rng.integers(1, 4)]:
        width, height = rng.integers(12, 21, 2)
        left, top = int(corner % 2) * 24 + rng.integers(0, 4), int(corner // 2) * 24 + rng.integers(0, 4)
        label = int(rng.integers(1, CLASSES))
        image[top : top + height, left : left + width] = 250 if label == 1 else 5
        edges = (left, top, min(SIDE, left + width), min(SIDE, top + height))
        boxes.append((label, tuple(float(edge) / SIDE for edge in edges), False))
    return encode_annotated(encode_image(cv2.imencode(".png", image)[1].tobytes(), -1), boxes)


def test_loss_falls_and_boxes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    write_lmdb("boxes_db", ((f"{i:08d}", draw(rng)) for i in range(IMAGES)))
    Path("net.prototxt").write_text(NET)
    stream = io.StringIO()
    solver = Solver(parse_message(SOLVER, SolverParameter()), log=Log(stream))
    losses = []
    solver.add_callback(on_gradients_ready=lambda s: losses.append(float(s.train_outputs()["loss"])))
    (before,) = solver.test(0)
    solver.step(STEPS)
    (after,) = solver.test(0)
    solver.close()
    first, last = np.mean(losses[:5]), np.mean(losses[-5:])
    assert last < first / 2
    assert before.value < 0.2
    assert after.value > 0.5
    lines = stream.getvalue()
    assert "class1: " in lines
    assert f"    Test net output #0: detection_eval = {after.value:g}" in lines
