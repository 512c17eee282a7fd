"""Detectors as ONNX: the rows of our own forward, at every size."""

import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.tools._onnx import to_onnx
from tests.onnx_harness import Array, check_same, net_of, run_model, run_net

#: rows are chosen by comparing numbers that each side rounds for itself
TOLERANCE = 1e-6


def detection_output(fields: str) -> str:
    bottoms = 'bottom: "offsets" bottom: "scores" bottom: "priors"'
    return f'layer {{ name: "d" type: "DetectionOutput" {bottoms} top: "rows" detection_output_param {{ {fields} }} }}'


def boxes_of(images: int, priors: int, classes: int, locations: int) -> dict[str, Array]:
    """Scores of two digits, so that many are equal."""
    generator = np.random.default_rng([images, priors, classes, locations])
    corners = generator.uniform(0, 0.7, (priors, 2))
    edges = np.concatenate((corners, corners + generator.uniform(0.05, 0.3, (priors, 2))), 1)
    scores = np.round(generator.dirichlet(np.full(classes, 0.5), (images, priors)), 2)
    return {
        "offsets": generator.standard_normal((images, priors * locations * 4)).astype(np.float32),
        "scores": scores.astype(np.float32).reshape(images, -1),
        "priors": np.stack((edges.flatten(), np.tile([0.1, 0.1, 0.2, 0.2], priors)))[None].astype(np.float32),
    }


@pytest.mark.parametrize(
    ("images", "priors", "fields", "rows"),
    [
        (1, 500, "keep_top_k: 50 confidence_threshold: 0.1 code_type: CENTER_SIZE nms_param { top_k: 100 }", 50),
        (3, 300, "keep_top_k: 40 confidence_threshold: 0.1 code_type: CORNER nms_param { top_k: 400 }", 120),
        (2, 60, "confidence_threshold: 0.3 code_type: CORNER_SIZE nms_param { nms_threshold: 0.45 }", None),
        (2, 60, "keep_top_k: 7 background_label_id: -1 nms_param { nms_threshold: 0.6 top_k: 30 }", 14),
        (2, 60, "keep_top_k: 7 background_label_id: 2 variance_encoded_in_target: true nms_param { }", 14),
        (3, 40, "keep_top_k: 7 confidence_threshold: 1.5 nms_param { top_k: 30 }", 3),  # none: a row for each image
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_detection_output(images: int, priors: int, fields: str, rows: int | None, shared: bool) -> None:
    inputs = boxes_of(images, priors, 4, 1 if shared else 4)
    text = detection_output(f"num_classes: 4 share_location: {str(shared).lower()} {fields}")
    net = net_of(text, **{name: value.shape for name, value in inputs.items()})
    check_same(net, inputs, tolerance=TOLERANCE)
    if rows is not None:
        assert run_net(net, inputs)["rows"].shape == (1, 1, rows, 7)


def test_a_box_turned_inside_out_overlaps_with_none() -> None:
    edges = [[0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.1, 0.1], [0.5, 0.1, 0.1, 0.5], [0.1, 0.1, 0.5, 0.5]]
    inputs = {
        "offsets": np.zeros((1, 16), np.float32),
        "scores": np.array([[0.9, 0.8, 0.7, 0.6]], np.float32),
        "priors": np.stack((np.ravel(edges), np.ones(16)))[None].astype(np.float32),
    }
    text = detection_output("num_classes: 1 background_label_id: -1 nms_param { }")
    net = net_of(text, **{name: value.shape for name, value in inputs.items()})
    check_same(net, inputs)
    assert run_net(net, inputs)["rows"][0, 0, :, 2].tolist() == [np.float32(value) for value in (0.9, 0.8, 0.7)]


def test_a_falling_threshold_has_no_form() -> None:
    inputs = boxes_of(1, 4, 2, 1)
    text = detection_output("num_classes: 2 nms_param { eta: 0.9 }")
    with pytest.raises(NetError, match=r"nms_param\.eta below 1, .* has no ONNX form"):
        to_onnx(net_of(text, **{name: value.shape for name, value in inputs.items()}))


def conv(name: str, bottom: str, outputs: int, fields: str = "kernel_size: 3 pad: 1") -> str:
    conv_param = f"convolution_param {{ num_output: {outputs} {fields} }}"
    return f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {conv_param} }}'


def rows_of(name: str, bottom: str) -> str:
    order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
    text = f'layer {{ name: "{name}_p" type: "Permute" bottom: "{bottom}" top: "{name}_p" {order} }}'
    return text + f'layer {{ name: "{name}" type: "Flatten" bottom: "{name}_p" top: "{name}" }}'


def ssd() -> str:
    """Two maps of three boxes each, three classes."""
    text = conv("a", "data", 4, "kernel_size: 3 stride: 4") + conv("b", "a", 4, "kernel_size: 3 stride: 2 pad: 1")
    text += 'layer { name: "norm" type: "Normalize" bottom: "a" top: "norm" norm_param { across_spatial: false } }'
    for name, source, fields in (
        ("a", "norm", "min_size: 6 aspect_ratio: 2 step: 4"),
        ("b", "b", "min_size: 14.7 aspect_ratio: 2 clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"),
    ):
        text += conv(f"{name}_l", source, 12) + rows_of(f"{name}_loc", f"{name}_l")
        text += conv(f"{name}_c", source, 9) + rows_of(f"{name}_conf", f"{name}_c")
        text += f"""layer {{ name: "{name}_pri" type: "PriorBox" bottom: "{source}" bottom: "data" top: "{name}_pri"
                    prior_box_param {{ {fields} }} }}"""
    for top, ends, axis in (("offsets", "loc", 1), ("scores", "conf", 1), ("priors", "pri", 2)):
        bottoms = " ".join(f'bottom: "{name}_{ends}"' for name in "ab")
        text += f'layer {{ name: "{top}" type: "Concat" {bottoms} top: "{top}" concat_param {{ axis: {axis} }} }}'
    return text


DETECTED = detection_output(
    "num_classes: 3 keep_top_k: 20 confidence_threshold: 0.05 code_type: CENTER_SIZE "
    "nms_param { nms_threshold: 0.45 top_k: 60 }"
)


@pytest.mark.parametrize("dynamic", [[], ["batch"], ["batch", "height", "width"]])
def test_ssd(dynamic: list[str]) -> None:
    model = check_same(net_of(ssd() + DETECTED, data=(2, 3, 30, 41)), dynamic=dynamic, tolerance=2e-5)
    ranges = [node for node in model.graph.node if node.op_type == "Range" and node.name.startswith("a_pri")]
    assert len(ranges) == (2 if "height" in dynamic else 0)  # else the prior boxes are constants


@pytest.mark.parametrize("dynamic", [[], ["height", "width"]])
def test_boxes_half_a_cell_lower(dynamic: list[str]) -> None:
    text = (
        conv("a", "data", 4, "kernel_size: 3 stride: 4")
        + """layer { name: "p" type: "PriorBox" bottom: "a"
        bottom: "data" top: "p" prior_box_param { min_size: 6 aspect_ratio: 2 additional_y_offset: true } }"""
    )
    check_same(net_of(text, data=(1, 3, 30, 41)), dynamic=dynamic, tolerance=1e-6)


def test_float16_keeps_boxes_whole() -> None:
    """Offsets and scores are rounded, prior boxes are not, nor what is made of them."""
    net = net_of(ssd(), data=(1, 3, 30, 41))
    check_same(net, half=True, tolerance=5e-3)
    data = np.random.default_rng(0).standard_normal((1, 3, 30, 41)).astype(np.float32)
    model = to_onnx(net_of(ssd() + DETECTED, data=(1, 3, 30, 41)), half=True)
    (priors,) = [c for c in model.graph.initializer if c.name.startswith("a_pri/")]
    assert priors.data_type == 1
    assert data.dtype == np.float32


def faster_rcnn(regions: str) -> str:
    fields = "ratio: 0.5 ratio: 1 scale: 1 scale: 2 base_size: 8 feat_stride: 4 min_size: 2 "
    fields += "pre_nms_topn: 60 post_nms_topn: 9 nms_thresh: 0.6"
    text = conv("a", "data", 8, "kernel_size: 3 stride: 4") + conv("s", "a", 8) + conv("o", "a", 16)
    text += f"""layer {{ name: "proposal" type: "Proposal" bottom: "s" bottom: "o" bottom: "info"
                top: "rois" top: "rated" proposal_param {{ {fields} }} }}"""
    text += f'layer {{ name: "pool" bottom: "a" bottom: "rois" top: "pool" {regions} }}'
    return (
        text
        + 'layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }'
    )


@pytest.mark.parametrize(
    "regions",
    [
        'type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 }',
        'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.25 pad_ratio: 0.3 }',
        'type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 sampling_ratio: 2 }',
        'type: "PSROIPooling" psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.25 }',
    ],
)
@pytest.mark.parametrize(("images", "dynamic"), [(1, ["height", "width"]), (2, [])])
def test_faster_rcnn(regions: str, images: int, dynamic: list[str]) -> None:
    net = net_of(faster_rcnn(regions), data=(images, 3, 50, 61), info=(images, 4))
    inputs = {
        "data": np.random.default_rng(0).standard_normal((images, 3, 50, 61)).astype(np.float32),
        "info": np.tile(np.array([50, 61, 1, 1], np.float32), (images, 1)),
    }
    model = check_same(net, inputs, tolerance=2e-5)
    assert [d.dim_param for d in model.graph.output[0].type.tensor_type.shape.dim][:1] == ["fc_0"]
    assert 2 * images < len(run_net(net, inputs)["rated"]) <= 9 * images
    if dynamic:
        moved = to_onnx(net, dynamic)
        for size in ((50, 61), (82, 40)):
            given = {
                "data": np.random.default_rng(1).standard_normal((images, 3, *size)).astype(np.float32),
                "info": np.array([[*size, 1.5, 1.2]] * images, np.float32),
            }
            expected, found = run_net(net, given), run_model(moved, given)
            assert len(found["rated"]) > 2
            for name in net.outputs:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
