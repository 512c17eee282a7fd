"""The pycaffe facade: blobs that can be written, partial passes, old call forms."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffe_compat.pycaffe as caffe
from caffe_compat import Net as CoreNet
from caffe_compat.errors import NetError
from caffe_compat.net.blobs import Place
from caffe_compat.proto import parse_net, read_caffemodel
from caffe_compat.pycaffe import _caffe
from caffe_compat.pycaffe.net import Net

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


X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("how", ["written", "written and carried", "given"])
@pytest.mark.parametrize("rows", [1, 4])
def test_what_is_written_into_a_reshaped_input_counts(model: str, rows: int, how: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.blobs["data"].reshape(rows, 3)
    if how == "given":
        out = net.forward(data=X[:rows])
    else:
        net.blobs["data"].data[...] = X[:rows]
        if how == "written and carried":
            net.reshape()
        out = net.forward()
    assert out["scaled"].tolist() == [[float(row.sum())] * 4 for row in X[:rows]]
    assert net.blobs["data"].data.tolist() == X[:rows].tolist()


def test_layers_that_do_not_run_keep_their_shapes(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.forward()
    net.blobs["data"].reshape(4, 3)
    net.blobs["data"].data[...] = X
    assert list(net.forward(end="relu")) == ["fc"]
    assert net.blobs["fc"].shape == (4, 4)
    assert net.blobs["scaled"].shape == (2, 4)


def test_share_with_shares_the_values_and_nothing_else(model: str) -> None:
    net, other = caffe.Net(model, caffe.TRAIN), caffe.Net(model, caffe.TRAIN)
    net.forward(data=X[:2])
    net.params["fc"][1].diff[...] = 5
    scaled = net.blobs["scaled"]
    other.params["fc"][0].data[...] = 2
    net.share_with(other)
    assert net.blobs["scaled"] is scaled
    assert scaled.data.tolist() == [[3.0] * 4, [12.0] * 4], "activations stay"
    assert net.params["fc"][1].diff.tolist() == [5.0] * 4
    assert not other.params["fc"][1].diff.any()
    scaled.diff[...] = 1
    net.backward()
    assert net.blobs["data"].diff.tolist() == [[16.0] * 3] * 2, "backward reads the weights as they are now"
    other.params["fc"][0].data[...] = 3
    assert net.forward()["scaled"].tolist() == [[18.0] * 4, [72.0] * 4]


def test_names_and_numbers(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    assert net._layer_names == ["in", "fc", "relu", "scaled"]
    assert net._blob_names == ["data", "fc", "scaled"]
    assert (net._inputs, net._outputs) == ([0], [2])
    assert [net._bottom_ids(i) for i in range(4)] == [[], [0], [1], [1]]
    assert [net._top_ids(i) for i in range(4)] == [[0], [1], [1], [2]]
    assert net.top_names["relu"] == ["fc"]
    assert net.bottom_names["scaled"] == ["fc"]
    assert list(net.blob_loss_weights.values()) == net._blob_loss_weights == [0, 0, 0]
    assert [layer.type for layer in net.layers] == ["Input", "InnerProduct", "ReLU", "Power"]
    assert net.layer_dict["fc"].blobs[0] is net.params["fc"][0]
    assert len(net._blobs) == 3


def test_layers_by_number_and_calls_around_them(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    net.blobs["data"].data[...] = X[:2]
    calls: list[tuple[str, int]] = []
    for moment in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, moment)(lambda number, moment=moment: calls.append((moment, number)))
    assert net._forward(1, 2) == 0.0
    net._backward(2, 2)
    assert calls == [
        ("before_forward", 1),
        ("after_forward", 1),
        ("before_forward", 2),
        ("after_forward", 2),
        ("before_backward", 2),
        ("after_backward", 2),
    ]


def test_forward_backward_all(model: str) -> None:
    net = caffe.Net(model, caffe.TEST)
    blobs, diffs = net.forward_backward_all(blobs=["fc"], data=X[:3], scaled=np.ones((3, 4), np.float32))
    assert blobs["scaled"].tolist() == [[3.0] * 4, [12.0] * 4, [21.0] * 4]
    assert blobs["fc"].shape == (3, 4)
    assert diffs["data"].tolist() == [[4.0] * 3] * 3


# -- where the host cannot reach the net's memory ----------------------------------------


def apart(model: str, phase: str = "TEST") -> caffe.Net:
    """A net on the CPU that treats it as a device of its own."""
    return caffe.Net.of(CoreNet(model, phase=phase), place(apart=True))


def place(*, apart: bool) -> Place:
    return Place(torch.device("cpu"), torch.float32, apart)


def test_a_forward_that_nobody_reads_copies_nothing(model: str) -> None:
    net = apart(model)
    net.blobs["data"].data[...] = X[:2]
    net.forward()
    where = net.engine.place
    assert (where.copies_to_host, where.copies_to_device) == (0, 1), "only the input goes over"
    for _ in range(3):
        net.forward()
        net.backward()
    assert (where.copies_to_host, where.copies_to_device) == (0, 1)
    out = net.forward()
    assert out["scaled"].tolist() == [[3.0] * 4, [12.0] * 4]
    assert dict(**out)["scaled"] is out["scaled"]
    assert where.copies_to_host == 1


def test_parameters_and_diffs_go_over_when_they_were_written(model: str, tmp_path: Path) -> None:
    net = apart(model)
    net.forward(data=X[:2])
    net.params["fc"][0].data[...] = 1
    net.blobs["scaled"].diff[...] = 1
    assert net.forward()["scaled"].tolist() == [[6.0] * 4, [24.0] * 4]
    assert net.backward()["data"].tolist() == [[8.0] * 3] * 2
    assert net.params["fc"][1].diff.tolist() == [4.0] * 4
    net.params["fc"][1].data[...] = 7
    net.save(tmp_path / "w.caffemodel")
    other = caffe.Net(model, str(tmp_path / "w.caffemodel"), caffe.TEST)
    assert other.params["fc"][1].data.tolist() == [7.0] * 4


def test_layers_that_share_a_parameter_show_one_copy_of_it(tmp_path: Path) -> None:
    param = "param { name: 'w' } inner_product_param { num_output: 3 bias_term: false }"
    (tmp_path / "shared").write_text(
        "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 3 } } }"
        f"layer {{ name: 'a' type: 'InnerProduct' bottom: 'x' top: 'y' {param} }}"
        f"layer {{ name: 'b' type: 'InnerProduct' bottom: 'y' top: 'z' {param} }}"
    )
    net = apart(str(tmp_path / "shared"))
    assert not net.params["b"][0].data.any()  # a look, which must not win over what is written now
    net.params["a"][0].data[...] = 2 * np.eye(3)
    assert net.params["b"][0].data.tolist() == (2 * np.eye(3)).tolist()
    assert not net.params["b"][0].diff.any()
    assert net.forward(x=X[:1])["z"].tolist() == [[0, 4, 8]]


@pytest.mark.parametrize("seed", range(6))
def test_both_ways_give_the_same_numbers(model: str, seed: int) -> None:
    """Random calls, on a net whose arrays are its memory and on one whose arrays are copies."""
    nets = [caffe.Net(model, caffe.TEST), apart(model)]
    rng = random.Random(seed)
    for _ in range(30):
        call, value, rows = rng.choice(CALLS), rng.uniform(-1, 1), rng.randint(1, 4)
        for net in nets:
            call(net, value, rows)
        for name in nets[0].blobs:
            if rng.random() < 0.5:
                for which in ("data", "diff"):
                    ours, theirs = (getattr(net.blobs[name], which) for net in nets)
                    assert ours.tolist() == theirs.tolist(), (name, which)
        for i in (0, 1):
            assert nets[0].params["fc"][i].data.tolist() == nets[1].params["fc"][i].data.tolist()
            assert nets[0].params["fc"][i].diff.tolist() == nets[1].params["fc"][i].diff.tolist()


def _write(name: str, which: str) -> Callable[[caffe.Net, float, int], object]:
    return lambda net, value, _: getattr(net.blobs[name], which).fill(value)


def _reshaped(net: caffe.Net, rows: int) -> np.ndarray:
    net.blobs["data"].reshape(rows, 3)
    return X[:rows]


CALLS: list[Callable[[caffe.Net, float, int], object]] = [
    lambda net, value, rows: net.forward(),
    lambda net, value, rows: net.forward(start="relu"),
    lambda net, value, rows: net.forward(end="fc"),
    lambda net, value, rows: (net.forward(), net.backward()),
    lambda net, value, rows: (net.forward(), net.backward(end="relu")),
    lambda net, value, rows: net.params["fc"][0].data.fill(value),
    lambda net, value, rows: net.params["fc"][1].diff.fill(value),
    lambda net, value, rows: net.clear_param_diffs(),
    lambda net, value, rows: net.forward(data=_reshaped(net, rows)),
    _write("data", "data"),
    _write("fc", "data"),
    _write("scaled", "diff"),
]


def test_blobs_live_where_the_net_lives() -> None:
    """The meta device has no memory: whatever is made elsewhere, or copied, would fail."""
    core = CoreNet(parse_net(TEXT), phase="TEST").to("meta")
    net = caffe.Net.of(core)
    net.engine.forward()
    net.engine.backward()
    for blob in net.engine.blobs:
        assert blob.read_data().device.type == blob.read_diff().device.type == "meta"
    assert (net.engine.place.copies_to_host, net.engine.place.copies_to_device) == (0, 0)


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
    with pytest.raises(ValueError, match="no layer named 'nope'"):
        net.forward(start="nope")
    with pytest.raises(KeyError, match="no blob named 'nope'"):
        net.forward(blobs=["nope"])
    with pytest.raises(RuntimeError, match="gone"):
        caffe.Net("gone.prototxt", caffe.TEST)


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


# -- what a unit sees -----------------------------------------------------------------------

UNITS = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "relu1" type: "ReLU" bottom: "data" top: "relu1" }
layer { name: "fc" type: "InnerProduct" bottom: "relu1" top: "fc"
  inner_product_param { num_output: 4 bias_term: false } }
layer { name: "relu2" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "top" type: "Power" bottom: "fc" top: "top" power_param { scale: 3 } }
"""


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ({}, [5, 0, 7, 0]),  # the plain gradient: where data is positive
        ({"deconv_type": "Zeiler & Fergus"}, [5, 6, 7, 0]),  # positive diffs
        ({"deconv_type": "Guided Backprop"}, [5, 0, 7, 0]),  # both
    ],
)
def test_back_from_a_unit(tmp_path: Path, way: dict[str, str], expected: list[float]) -> None:
    (tmp_path / "units").write_text(UNITS)
    net = caffe.Net(str(tmp_path / "units"), caffe.TEST)
    net.params["fc"][0].data[...] = np.eye(4)
    net.forward(data=np.array([[1, -1, 2, -2]], np.float32))
    net.blobs["top"].diff[...] = 9
    diff = np.array([[5, 6, 7, -8]], np.float32)
    start = net.deconv_from_layer if way else net.backward_from_layer
    out = start("fc", diff, ["relu1"], zero_higher=True, **way)
    assert out["data"][0].tolist() == expected
    assert out["relu1"][0].tolist() == diff[0].tolist()
    assert not net.blobs["top"].diff.any()
    assert bool(net.params["fc"][0].diff.any()) == (not way), "a deconvnet learns nothing"
    with pytest.raises(NetError, match=r"the diff for 'fc' has shape \(4,\); expected \(1, 4\)"):
        net.backward_from_layer("fc", np.zeros(4))
    with pytest.raises(NetError, match="deconv_type is 'x'; expected 'Zeiler & Fergus' or 'Guided Backprop'"):
        net.deconv_from_layer("fc", diff, deconv_type="x")


def test_a_guided_relu_masks_both_ways(tmp_path: Path) -> None:
    (tmp_path / "units").write_text(UNITS)
    net = caffe.Net(str(tmp_path / "units"), caffe.TEST)
    net.forward(data=np.array([[1, -1, 2, -2]], np.float32))
    diff = np.array([[-5, 6, 7, -8]], np.float32)
    assert net.deconv_from_layer("relu1", diff)["data"][0].tolist() == [0, 6, 7, 0]
    assert net.deconv_from_layer("relu1", diff, deconv_type="Guided Backprop")["data"][0].tolist() == [0, 0, 7, 0]
    assert net.backward_from_layer("relu1", diff)["data"][0].tolist() == [-5, 0, 7, 0]


# -- Python layers on the net's own blobs --------------------------------------------------

LAYERS = """
import numpy as np
import caffe_compat.pycaffe as caffe


class Counter(caffe.Layer):
    # A source: what its top holds lasts from pass to pass.
    def setup(self, bottom, top):
        self.kept = top[0]
        self.passes = 0

    def reshape(self, bottom, top):
        top[0].reshape(2, 3)

    def forward(self, bottom, top):
        self.passes += 1
        self.kept.data[0] += 1

    def backward(self, top, propagate_down, bottom):
        pass


class Half(caffe.Layer):
    # Writes only half of its top, doubles its bottom, and leaves bottom diffs as they are.
    def setup(self, bottom, top):
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 5

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        bottom[0].data[...] *= 2
        top[0].data[0] = bottom[0].data[0]

    def backward(self, top, propagate_down, bottom):
        self.propagate_down = propagate_down
        self.blobs[0].diff[0] += top[0].diff.sum()


class Batches(caffe.Layer):
    # A source whose batches change their size.
    def setup(self, bottom, top):
        self.rows = 0

    def reshape(self, bottom, top):
        top[0].reshape(self.rows % 3 + 1, 2, 2)

    def forward(self, bottom, top):
        top[0].data[...] = np.arange(top[0].count).reshape(top[0].shape)
        self.rows += 1

    def backward(self, top, propagate_down, bottom):
        pass
"""


def python_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    (tmp_path / "user_layers_of_a_net.py").write_text(LAYERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "python.prototxt"
    path.write_text("force_backward: true\n" + text)
    return str(path)


def python_layer(name: str, bottom: str, kind: str) -> str:
    param = f"python_param {{ module: 'user_layers_of_a_net' layer: '{kind}' }}"
    return f"layer {{ name: '{name}' type: 'Python' {bottom} top: '{name}' {param} }}\n"


@pytest.mark.parametrize("host_apart", [False, True])
def test_a_python_layer_works_on_the_nets_blobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_apart: bool
) -> None:
    text = python_layer("a", "", "Counter") + python_layer("b", "bottom: 'a'", "Half")
    core = CoreNet(python_net(tmp_path, monkeypatch, text), phase="TRAIN", allow_python_layers=True)
    net = caffe.Net.of(core, place(apart=host_apart))
    a, b = net.layers
    assert type(b).__name__ == "Half"
    assert net.layer_dict["b"] is b
    assert net.params["b"] is b.blobs
    assert b.blobs[0].data.tolist() == [5, 5]
    net.blobs["b"].data[1] = 9
    net.blobs["a"].data[1] = 1
    for expected in (2, 6, 14):  # (the last value + 1) * 2
        net.forward()
        assert net.blobs["a"].data[0].tolist() == [expected] * 3, "the next layer's writes last"
        assert net.blobs["b"].data.tolist() == [[expected] * 3, [9] * 3], "what nobody writes stays"
    assert a.passes == 3
    assert a.kept.data.tolist() == net.blobs["a"].data.tolist()
    net.blobs["b"].diff[...] = 1
    net.blobs["a"].diff[...] = 4
    net.backward()
    net.backward()
    assert net.blobs["a"].diff.tolist() == [[4.0] * 3] * 2, "nobody wrote them"
    assert b.blobs[0].diff.tolist() == [12, 0], "added to, and the rest left alone"
    net.clear_param_diffs()
    assert b.blobs[0].diff.tolist() == [0, 0]
    assert b.propagate_down == [True]
    net.save(str(tmp_path / "w.caffemodel"))
    b.blobs[0].data[...] = 0
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert b.blobs[0].data.tolist() == [5, 5]


def test_a_source_whose_batches_change_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        python_layer("x", "", "Batches")
        + "layer { name: 'f' type: 'Flatten' bottom: 'x' top: 'f' }\n"
        + "layer { name: 'r' type: 'Reshape' bottom: 'x' top: 'r' reshape_param { shape { dim: 0 dim: -1 } } }\n"
        + "layer { name: 's' type: 'Eltwise' bottom: 'f' bottom: 'r' top: 's' }\n"
    )
    net = caffe.Net(python_net(tmp_path, monkeypatch, text), caffe.TRAIN)
    for rows in (1, 2, 3, 1, 2):
        out = net.forward()
        assert out["s"].tolist() == (2 * np.arange(4.0 * rows).reshape(rows, 4)).tolist()
        net.blobs["s"].diff[...] = rows
        net.backward()
        assert net.blobs["x"].diff.tolist() == np.full((rows, 2, 2), 2 * rows).tolist()


def test_blobs_called_self(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT.replace('"data"', '"self"').replace('"scaled"', '"out"'))
    net = caffe.Net(str(path), caffe.TEST)
    rows: dict[str, Any] = {"self": np.ones((2, 3), np.float32)}
    more: dict[str, Any] = {"self": np.ones((3, 3), np.float32)}
    assert net.forward(**rows)["out"].tolist() == [[3.0] * 4] * 2
    assert net.backward(out=np.ones((2, 4), np.float32))["self"].tolist() == [[4.0] * 3] * 2
    assert net.forward_all(**more)["out"].tolist() == [[3.0] * 4] * 3


def test_a_blob_put_among_a_layers_blobs_is_the_layers_from_then_on(tmp_path: Path) -> None:
    net, other = (scales(tmp_path, value) for value in (2.0, 3.0))
    assert type(net.params["scale"]) is _caffe.BlobVec  # scripts ask
    net.layers[1].blobs[0] = other.params["scale"][0]
    assert net.forward()["scale"].tolist() == [[3.0, 3.0]]
    other.params["scale"][0].data[...] = 5
    assert net.forward()["scale"].tolist() == [[5.0, 5.0]]
    assert net.params["scale"][0].data.tolist() == [5.0, 5.0]
    net.save(tmp_path / "saved.caffemodel")
    (saved,) = read_caffemodel(tmp_path / "saved.caffemodel")[-1].blobs
    assert np.asarray(saved).tolist() == [5.0, 5.0]
    net.blobs["scale"].diff[...] = [[1, 2]]
    net.backward()
    assert other.params["scale"][0].diff.tolist() == [1.0, 2.0]  # of data, which is 1


def test_what_cannot_be_put_among_a_layers_blobs(tmp_path: Path) -> None:
    net, wide = scales(tmp_path, 2.0), scales(tmp_path, 3.0, channels=4)
    with pytest.raises(NetError, match=r"param 0 has shape \(2,\); the one to use instead has \(4,\)"):
        net.params["scale"][0] = wide.params["scale"][0]
    with pytest.raises(NetError, match=r"blobs\[0\] = 7: expected a parameter of a layer"):
        net.params["scale"][0] = 7
    with pytest.raises(NetError, match=r"has 1 blob\(s\); that number cannot be changed"):
        net.params["scale"].add_blob(2)
    assert net.forward()["scale"].tolist() == [[2.0, 2.0]]


def scales(folder: Path, value: float, channels: int = 2) -> Net:
    """A net of one Scale layer with this value, over ones."""
    model = folder / f"scale{channels}.prototxt"
    model.write_text(f"""
        force_backward: true
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: {channels} }} }} }}
        layer {{ name: "scale" type: "Scale" bottom: "data" top: "scale" }}
    """)
    net = Net(model, caffe.TEST)
    net.blobs["data"].data[...] = 1
    net.params["scale"][0].data[...] = value
    return net
