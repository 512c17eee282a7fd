from collections.abc import Sequence

import numpy as np
import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.python import PythonBlob
from caffe_compat.layers.shared.python_proposal import ProposalLayer
from caffe_compat.proto import caffe_pb2


def proposal_layer(param_str: str, phase: int = 1) -> ProposalLayer:
    layer = ProposalLayer(caffe_pb2.LayerParameter(name="proposal", python_param={"param_str": param_str}))
    layer.phase = phase
    return layer


@pytest.mark.parametrize(
    ("text", "anchors", "stride"),
    [
        ("'feat_stride': 16", 9, 16),
        ("'feat_stride': 16 \n'scales': !!python/tuple [4, 8, 16, 32]", 12, 16),
        ("{'feat_stride': 8, 'scales': [2, 4], 'ratios': (1, 2)}", 4, 8),
        ("feat_stride: 4\nscales:\n [8]".replace("\n [", " ["), 3, 4),
    ],
)
def test_settings(text: str, anchors: int, stride: float) -> None:
    layer = proposal_layer(text)
    assert (len(layer.anchors), layer.stride) == (anchors, stride)


@pytest.mark.parametrize("text", ["", "'scales': [8]", "'feat_stride': x", "'feat_stride': 16\n'base_size': 8", "16"])
def test_other_settings(text: str) -> None:
    with pytest.raises(
        NetError, match=r'layer "proposal" \(Python\): python_param.param_str is ".*"; expected feat_stride'
    ):
        proposal_layer(text)


def run(layer: ProposalLayer, tops: int = 2, more_info: Sequence[float] = ()) -> list[PythonBlob]:
    """Two cells with one anchor of 16 by 16, whose right edge moves by 1 even for no offset, as in the original; the
    image ends there."""
    arrays = ([[[[9, 9]], [[0.25, 0.75]]]], np.zeros((1, 4, 1, 2)), [[16, 20, 0.5, *more_info]])
    bottom = [PythonBlob(data=np.array(array, np.float32)) for array in arrays]
    top = [PythonBlob() for _ in range(tops)]
    layer.setup(bottom, top)
    assert [blob.shape for blob in top] == [(1, 5), (1, 1)][:tops]
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    layer.backward(top, [False] * 3, bottom)
    return top


def test_forward() -> None:
    rois, scores = run(proposal_layer("'feat_stride': 16 \n'scales': [1] \n'ratios': [1]"))
    assert rois.data.tolist() == [[0, 0, 0, 16, 15]]  # the other is less than 8 wide
    assert scores.data.tolist() == [[0.25]]
    assert run(proposal_layer("'feat_stride': 16 \n'scales': [1] \n'ratios': [1]"), tops=1)[0].shape == (1, 5)


def test_image_info_of_six_values() -> None:
    rois, _ = run(proposal_layer("'feat_stride': 16 \n'scales': [1] \n'ratios': [1]"), more_info=[9, 9, 9])
    assert rois.data.tolist() == [[0, 0, 0, 16, 15]]  # a scale of 9 would leave nothing


def test_phases() -> None:
    for phase, most in ((0, 2000), (1, 300)):
        layer = proposal_layer("'feat_stride': 40 \n'scales': [1] \n'ratios': [1]", phase)
        scores, offsets = np.zeros((1, 2, 50, 50), np.float32), np.zeros((1, 4, 50, 50), np.float32)
        scores[0, 1] = np.arange(2500).reshape(50, 50)
        bottom = [PythonBlob(data=array) for array in (scores, offsets, np.array([[2000, 2000, 1]], np.float32))]
        top = [PythonBlob()]
        layer.forward(bottom, top)
        # Anchors 40 pixels apart do not overlap: the best ones come, from the last cell on.
        assert top[0].shape == (most, 5)
        assert top[0].data[0].tolist() == [0, 1960, 1960, 1976, 1976]


def test_refuses_other_shapes() -> None:
    layer = proposal_layer("'feat_stride': 16")
    bottom = [PythonBlob(shape) for shape in ((2, 18, 1, 1), (2, 36, 1, 1), (1, 3))]
    with pytest.raises(NetError, match=r"expected \(1, 18, H, W\), \(1, 36, H, W\) and \(1, 3\) for 9 anchors"):
        layer.forward(bottom, [PythonBlob()])
