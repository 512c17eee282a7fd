"""Proposals as ONNX: those of our own forward.  (Of the layer Proposal: test_onnx_boxes.py.)"""

import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.tools._onnx import to_onnx
from tests.onnx_harness import Array, check_same, net_of, run_model, run_net

PYTHON = """type: "Python" python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
            param_str: "{'feat_stride': 16, 'scales': !!python/tuple [1, 2], 'ratios': [0.5, 1]}" }"""
ANCHORS = "anchors: -4 anchors: -2 anchors: 19 anchors: 17 anchors: 0 anchors: -8 anchors: 15 anchors: 23"
FRCNN = f'type: "FrcnnProposal" proposal_param {{ feat_stride: 16 {ANCHORS} {ANCHORS} post_nms_topn: 40 }}'
POOL = """layer { name: "pool" type: "ROIPooling" bottom: "scores" bottom: "rois" top: "pool"
          roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.0625 } }"""


def bottoms(height: int, width: int, info: list[float]) -> dict[str, Array]:
    """Scores of two digits, so that many are equal."""
    generator = np.random.default_rng([height, width])
    return {
        "scores": np.round(generator.uniform(0, 1, (1, 8, height, width)), 2).astype(np.float32),
        "offsets": (generator.standard_normal((1, 16, height, width)) / 2).astype(np.float32),
        "info": np.array([[height * 16.0, width * 16.0, *info]], np.float32),
    }


@pytest.mark.parametrize("info", [[0.75], [0.75, 3.0, 0.0, 0.0]], ids=["three values", "six values, as PVANET's"])
@pytest.mark.parametrize("layer", [PYTHON, FRCNN], ids=["py-faster-rcnn", "frcnn"])
def test_proposals(layer: str, info: list[float]) -> None:
    """Of the image info only the first scale counts."""
    text = f'layer {{ name: "p" bottom: "scores" bottom: "offsets" bottom: "info" top: "rois" top: "rated" {layer} }}'
    given = bottoms(4, 5, info)
    net = net_of(text + POOL, **{name: value.shape for name, value in given.items()})
    plain = check_same(net, given, tolerance=1e-6)
    moved = to_onnx(net, ["height", "width"])
    # which OpenCV 5 does not read
    assert not {"Expand", "MaxRoiPool"} & {node.op_type for node in plain.graph.node}
    assert "Expand" not in {node.op_type for node in moved.graph.node}
    for size in ((4, 5), (7, 3)):
        again = bottoms(*size, info)
        expected, found = run_net(net, again), run_model(moved, again)
        assert 5 < len(expected["rated"]) < 4 * size[0] * size[1]
        for name in net.outputs:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4)


def test_refusal() -> None:
    text = f'layer {{ name: "p" bottom: "scores" bottom: "offsets" bottom: "info" top: "rois" {PYTHON} }}'
    net = net_of(text, scores=(1, 6, 4, 5), offsets=(1, 16, 4, 5), info=(1, 3))
    with pytest.raises(NetError, match=r'layer "p" \(Python\): bottoms have shapes .* expected \(1, 8, H, W\)'):
        to_onnx(net)
