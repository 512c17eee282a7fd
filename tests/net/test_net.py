"""The Net module: names, phases, sharing, gradients, shapes, errors."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

from caffe_compat import Net, NetError
from caffe_compat.proto import parse_net

DATA = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }\n'
LABEL = 'layer { name: "lab" type: "Input" top: "label" input_param { shape { dim: 2 } } }\n'


def net(text: str, **kw) -> Net:
    torch.manual_seed(0)
    return Net(parse_net(text), **kw)


def conv(name: str, bottom: str, extra: str = "", param: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {param} '
        f'convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} {extra} }} }}\n'
    )


def ip(name: str, bottom: str, outputs: int = 5, param: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param} '
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}\n'
    )


RELU = 'layer { name: "relu" type: "ReLU" bottom: "c1" top: "c1" }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
ACCURACY = 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }\n'
BOTH_RULES = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" include { phase: TRAIN } exclude { phase: TEST } }'
SMALL = DATA + LABEL + conv("c1", "data") + RELU + ip("fc", "c1") + ACCURACY + LOSS


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


def test_phase_rules_drop_the_accuracy() -> None:
    assert net(SMALL).outputs == ["loss"]


def test_level_and_stage_rules() -> None:
    text = (
        DATA
        + conv("c1", "data")
        + ('layer { name: "r" type: "ReLU" bottom: "c1" top: "r" include { min_level: 2 stage: "deploy" } }')
    )
    assert "r" not in net(text, level=2).layers
    assert "r" not in net(text, level=1, stages=["deploy"]).layers
    assert "r" in net(text, level=3, stages=["deploy", "x"]).layers


def test_gradients_flow_and_in_place_is_safe() -> None:
    n = net(SMALL)
    _, loss = n.forward_with_loss(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in n.parameters())


def test_frozen_layers_need_no_gradient() -> None:
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    n = net(DATA + LABEL + conv("c1", "data", param=frozen) + RELU + ip("fc", "c1") + LOSS)
    assert [p.requires_grad for p in n.parameters()] == [False, False, True, True]
    _, loss = n.forward_with_loss(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    loss.backward()
    assert n.layers["c1"].weight.grad is None


def test_propagate_down_false_stops_the_gradient() -> None:
    text = DATA + LABEL + conv("c1", "data") + ip("fc", "c1") + LOSS
    n = net(text.replace('bottom: "c1" top: "fc"', 'bottom: "c1" propagate_down: false top: "fc"'))
    _, loss = n.forward_with_loss(data=torch.randn(2, 3, 8, 8), label=torch.tensor([1, 2]))
    loss.backward()
    assert n.layers["c1"].weight.grad is None
    assert n.layers["fc"].weight.grad is not None


def test_sharing_by_name() -> None:
    shared = 'param { name: "w" lr_mult: 3 } param { name: "b" }'
    two = DATA.replace('"in"', '"in2"').replace('"data"', '"data2"')
    text = DATA + two + conv("c1", "data", param=shared) + conv("c2", "data2", param=shared)
    n = net(text)
    assert n.layers["c1"].weight is n.layers["c2"].weight
    assert [(p.layer, p.index, p.lr_mult) for p in n.learnable] == [("c1", 0, 3.0), ("c1", 1, 1.0)]
    with pytest.raises(NetError, match="lr_mult 5"):
        net(text.replace('c2" param { name: "w" lr_mult: 3 }', 'c2" param { name: "w" lr_mult: 5 }'))
    with pytest.raises(NetError, match="cannot share"):
        net(text.replace("num_output: 4", "num_output: 6", 1))


def test_new_input_size_reshapes_and_bad_size_names_the_layer() -> None:
    n = net(DATA + conv("c1", "data"))
    assert n(data=torch.randn(5, 3, 10, 9))["c1"].shape == (5, 4, 8, 7)
    assert n.blob_shapes["c1"] == (5, 4, 8, 7)
    with pytest.raises(NetError, match=r'layer "c1" \(Convolution\).*5 channels.*take 3'):
        n(data=torch.randn(5, 5, 10, 9))
    assert n.blob_shapes["c1"] == (5, 4, 8, 7), "a refused size leaves the net as it was"


def test_unknown_types_are_all_named() -> None:
    text = (
        DATA
        + 'layer { name: "a" type: "Foo" bottom: "data" top: "a" }'
        + 'layer { name: "b" type: "Rellu" bottom: "a" top: "b" }'
    )
    with pytest.raises(NetError, match=r'2 layer.*"a" has type "Foo".*"b" has type "Rellu" \(did you mean ReLU'):
        net(text)


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


def test_field_of_another_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r'layer "r" \(ReLU\): field pooling_param has no effect'):
        net(DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" pooling_param { kernel_size: 2 } }')


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


def test_weights_round_trip(tmp_path: Path) -> None:
    n, other = net(SMALL), Net(parse_net(SMALL))
    for name in ("w.caffemodel", "w.caffemodel.h5"):
        n.save(tmp_path / name)
        for p in other.parameters():
            p.data.zero_()
        report = other.copy_from(tmp_path / name)
        assert report.copied == ["c1", "fc"]
        assert report.missing == []
        assert all(torch.equal(a, b) for a, b in zip(n.parameters(), other.parameters(), strict=True))


def test_copy_ignores_unknown_layers_and_refuses_other_shapes(tmp_path: Path) -> None:
    n = net(SMALL)
    n.save(tmp_path / "w.caffemodel")
    renamed = net(SMALL.replace('"fc"', '"fc-new"'))
    report = renamed.copy_from(tmp_path / "w.caffemodel")
    assert "fc" in report.ignored
    assert report.missing == ["fc-new"]
    wider = net(SMALL.replace("num_output: 5", "num_output: 6"))
    before = wider.layers["c1"].weight.clone()
    with pytest.raises(NetError, match=r"param 0 has shape \(5, 144\) in the file and \(6, 144\) in the net"):
        wider.copy_from(tmp_path / "w.caffemodel")
    assert torch.equal(before, wider.layers["c1"].weight), "nothing is copied when one layer does not fit"


def test_compiles_without_graph_breaks() -> None:
    n = net(SMALL)
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([0, 4])
    want = n.forward_with_loss(data=x, label=y)[1]
    compiled = torch.compile(n.forward_with_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(data=x, label=y)[1], want)
