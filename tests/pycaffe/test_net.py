"""The pycaffe facade: blobs that can be written, partial passes, old call forms."""

from pathlib import Path

import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import NetError

TEXT = """
name: "tiny" force_backward: true
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "scaled" type: "Power" bottom: "fc" top: "scaled" power_param { scale: 2 } }
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT)
    return str(path)


def test_blobs_are_views_into_the_net(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.blobs["data"].data[...] = 1
    view = net.blobs["scaled"].data
    out = net.forward()
    assert out["scaled"].tolist() == [[3.0] * 4] * 2
    assert view is not out["scaled"]
    assert (view == out["scaled"]).all(), "a view taken before the pass shows its result"
    net.params["fc"][0].data[0] = 2
    assert net.forward()["scaled"][0].tolist() == [12.0, 3.0, 3.0, 3.0]


def test_partial_passes_use_what_was_written(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.blobs["fc"].data[...] = -5
    assert net.forward(start="scaled")["scaled"].min() == -10
    assert list(net.forward(end="fc")) == ["fc"]


def test_backward_adds_up_parameter_diffs(model: str) -> None:
    net = caffe.Net(model, caffe.TRAIN)
    for passes in (1, 2):
        net.forward(data=np.ones((2, 3), np.float32))
        net.blobs["scaled"].diff[...] = 1
        diffs = net.backward()
        assert diffs["data"].tolist() == [[4.0] * 3] * 2, "diffs of blobs are overwritten"
        assert net.params["fc"][1].diff.tolist() == [4.0 * passes] * 4, "those of parameters add up"
    net.clear_param_diffs()
    assert not net.params["fc"][1].diff.any()


def test_reshape_follows_the_input(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.blobs["data"].reshape(5, 3)
    net.reshape()
    assert net.blobs["scaled"].data.shape == (5, 4)
    net.blobs["data"].reshape(1, 3)
    assert net.forward()["scaled"].shape == (1, 4), "forward notices a reshaped input too"


def test_forward_all_pads_the_last_batch(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    out = net.forward_all(data=np.arange(15, dtype=np.float32).reshape(5, 3))
    assert out["scaled"][:, 0].tolist() == [3.0, 12.0, 21.0, 30.0, 39.0]


def test_save_copy_and_old_call_forms(model: str, tmp_path: Path) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.params["fc"][1].data[...] = [1, 2, 3, 4]
    weights = str(tmp_path / "w.caffemodel")
    net.save(weights)
    net.save_hdf5(weights + ".h5")
    for other in (caffe.Net(model, weights, caffe.TEST), caffe.Net(model, caffe.TEST, weights=weights + ".h5")):
        assert other.params["fc"][1].data.tolist() == [1, 2, 3, 4]
    with pytest.raises(NetError, match="phase is missing"):
        caffe.Net(model)


def test_copy_from_says_what_does_not_fit(model: str, tmp_path: Path) -> None:
    net = caffe.Net(model, caffe.TEST)
    (tmp_path / "other").write_text(Path(model).read_text().replace('"fc"', '"fc_new"'))
    net.save(str(tmp_path / "w"))
    with pytest.raises(NetError, match=r'w: nothing fits .*other: the file has blobs for the layers "fc", .* "fc_new"'):
        caffe.Net(str(tmp_path / "other"), str(tmp_path / "w"), caffe.TEST)


def test_wrong_inputs_say_what_is_expected(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    with pytest.raises(NetError, match=r"expected all of \['data'\]"):
        net.forward(image=np.zeros(3))
    with pytest.raises(NetError, match="batch size 2"):
        net.forward(data=np.zeros((3, 3)))
    with pytest.raises(NetError, match="no layer named 'nope'"):
        net.forward(start="nope")


def test_set_input_arrays_feeds_memory_data(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "m" type: "MemoryData" top: "x" top: "y" '
        "memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }"
    )
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.set_input_arrays(np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3), np.arange(4, dtype=np.float32))
    net.forward()
    assert net.forward()["x"].ravel().tolist() == [6, 7, 8, 9, 10, 11]
    assert net.blobs["y"].data.tolist() == [2, 3]
