"""The Net module: names, phases, sharing, gradients, shapes, errors."""

import copy
import pickle

import pytest
import torch

from caffe_compat import NetError
from tests.net.prototxt import DATA, SMALL, conv, net

BOTH_RULES = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" include { phase: TRAIN } exclude { phase: TEST } }'


def test_names_and_outputs() -> None:
    n = net(SMALL, phase="TEST")
    assert list(n.state_dict()) == ["c1.weight", "c1.bias", "fc.weight", "fc.bias"]
    assert n.inputs == ["data", "label"]
    assert n.outputs == ["acc", "loss"]
    assert "fc_fc_0_split" in n.layers
    assert n.blob_names[-4:] == ["fc_fc_0_split_0", "fc_fc_0_split_1", "acc", "loss"]
    out = n(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    assert set(out) == {"acc", "loss"}
    assert out["loss"].shape == ()


def test_gradients_flow_and_in_place_is_safe() -> None:
    n = net(SMALL)
    _, loss = n.forward_with_loss(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in n.parameters())


def test_new_input_size_reshapes_and_bad_size_names_the_layer() -> None:
    n = net(DATA + conv("c1", "data"))
    assert n(data=torch.randn(5, 3, 10, 9))["c1"].shape == (5, 4, 8, 7)
    assert n.blob_shapes["c1"] == (5, 4, 8, 7)
    with pytest.raises(NetError, match=r'layer "c1" \(Convolution\).*5 channels.*take 3'):
        n(data=torch.randn(5, 5, 10, 9))
    assert n.blob_shapes["c1"] == (5, 4, 8, 7), "a refused size leaves the net as it was"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (conv("c1", "data"), 'unknown bottom blob "data"'),
        (DATA + conv("c1", "data") + conv("c1", "data"), "produced by two layers"),
        (DATA + conv("c1", "data", param="param {} param {} param {}"), "3 param entries for 2"),
        (DATA + conv("c1", "data", "group: 2"), "group is 2"),
        (DATA + conv("c1", "data", "stride: 0"), "stride is 0"),
        (DATA + conv("c1", "data", "kernel_h: 2"), "not both"),
        (DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "a" top: "b" }', "takes exactly 1"),
        (DATA + conv("c1", "data").replace("top:", "loss_weight: 1 loss_weight: 2 top:"), "loss_weight is given 2"),
        (DATA + conv("c1", "data").replace("top:", "propagate_down: true propagate_down: true top:"), "propagate_down"),
        (DATA + BOTH_RULES, "both include and exclude"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        net(text)


def test_unknown_keyword_lists_the_inputs() -> None:
    with pytest.raises(NetError, match="'image' is not an input of this net; inputs are data"):
        net(DATA)(image=torch.zeros(1))


def test_deepcopy_pickle_and_dtype() -> None:
    n = net(SMALL, phase="TEST")
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([0, 4])
    want = n(data=x, label=y)["loss"]
    for twin in (copy.deepcopy(n), pickle.loads(pickle.dumps(n))):
        assert torch.equal(twin(data=x, label=y)["loss"], want)
    double = n.double()(data=x, label=y)["loss"]
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), want, rtol=1e-5, atol=0)


def test_extract_any_blob() -> None:
    n = net(SMALL, phase="TEST")
    blobs = n.extract(["c1", "fc"], data=torch.randn(2, 3, 8, 8), label=torch.tensor([0, 4]))
    assert blobs["c1"].min() == 0, "c1 is seen after its in-place ReLU"
    with pytest.raises(NetError, match="no blob named 'nope'"):
        n.extract(["nope"])


def test_compiles_without_graph_breaks() -> None:
    n = net(SMALL)
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([0, 4])
    want = n.forward_with_loss(data=x, label=y)[1]
    compiled = torch.compile(n.forward_with_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(data=x, label=y)[1], want)
