"""The Net module: names, phases, sharing, gradients, shapes, errors."""

import copy
import pickle

import pytest
import torch

from caffe_compat import NetError
from tests.net.prototxt import DATA, RELU, SMALL, conv, ip, net

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


DROP = 'layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" }\n'
NORM = 'layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" }\n'
X = torch.arange(1.0, 1 + 2 * 3 * 8 * 8).view(2, 3, 8, 8)


def test_train_and_eval_decide_dropout() -> None:
    for phase in ("TRAIN", "TEST"):
        n = net(DATA + DROP, phase=phase)
        assert n.training == (phase == "TRAIN")
        assert torch.equal(n(X)["drop"], X) == (phase == "TEST"), "the mode to begin with"
        dropped = n.train()(X)["drop"]
        assert set(torch.unique(dropped / X).tolist()) == {0.0, 2.0}
        assert torch.equal(n.eval()(X)["drop"], X)


def test_train_and_eval_decide_batch_statistics() -> None:
    own = torch.nn.functional.batch_norm(X, None, None, training=True)
    for phase in ("TRAIN", "TEST"):
        n = net(DATA + NORM, phase=phase)
        torch.testing.assert_close(n.train()(X)["norm"], own)
        assert n.params["norm"][2].item() == 1
        # the running averages of one batch: PyTorch's own, unbiased
        mean, variance = X.mean((0, 2, 3)), X.var((0, 2, 3))
        torch.testing.assert_close(n.eval()(X)["norm"], torch.nn.functional.batch_norm(X, mean, variance))
        assert n.params["norm"][2].item() == 1, "eval leaves them as they are"


def test_use_global_stats_wins_over_the_mode() -> None:
    n = net(DATA + NORM.replace("}", "batch_norm_param { use_global_stats: true } }"))
    n.train()(X)
    assert n.params["norm"][2].item() == 0


def test_a_layers_own_phase_is_its_mode_to_begin_with() -> None:
    n = net(DATA + DROP.replace("}", "phase: TEST }"), phase="TRAIN")
    assert torch.equal(n(X)["drop"], X)
    assert not torch.equal(n.train()(X)["drop"], X)


def test_a_deploy_net_learns_from_the_callers_loss() -> None:
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    text = DATA + conv("c1", "data", param=frozen) + RELU + conv("c2", "c1") + ip("fc", "c2")
    text += 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
    for phase in ("TRAIN", "TEST"):
        for fast in (False, True):
            n = net(text, phase=phase, fast=fast)
            x = torch.randn(2, 3, 8, 8, requires_grad=True)
            loss = -n(x)["prob"][:, 1].log().mean()
            # the same in plain PyTorch
            w = {name: value.detach().requires_grad_() for name, value in n.state_dict().items()}
            y = torch.nn.functional.conv2d(x, w["c1.weight"], w["c1.bias"]).relu()
            y = torch.nn.functional.conv2d(y, w["c2.weight"], w["c2.bias"])
            y = torch.nn.functional.linear(y.flatten(1), w["fc.weight"], w["fc.bias"])
            expected = torch.autograd.grad(torch.nn.functional.cross_entropy(y, torch.ones(2).long()), [x, *w.values()])
            n.layers["c1"].requires_grad_(True)  # lr_mult: 0 freezes only until the caller says otherwise
            found = torch.autograd.grad(-n(x)["prob"][:, 1].log().mean(), [x, *n.parameters()])
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
            loss.backward()
            assert [n.layers[name].weight.grad is None for name in ("c1", "c2", "fc")] == [True, False, False]


def test_a_branch_without_a_loss_of_its_own_takes_the_callers() -> None:
    n = net(SMALL + ip("side", "data"))
    outputs, _ = n.forward_with_loss(torch.randn(2, 3, 8, 8), torch.tensor([1, 2]))
    outputs["side"].sum().backward()
    assert n.layers["side"].weight.grad is not None


def test_inputs_by_place() -> None:
    n = net(SMALL, phase="TEST")
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([1, 2])
    expected = n(data=x, label=y)["loss"]
    for found in (n(x, y), n(x, label=y), n({"data": x, "label": y}), n(x, {"label": y}), n({"data": x}, label=y)):
        assert torch.equal(found["loss"], expected)
    assert torch.equal(n.forward_with_loss(x, y)[1], expected)
    assert torch.equal(n.extract(["loss"], x, y)["loss"], expected)
    made = net(DATA.replace("Input", "DummyData").replace("input_param", "dummy_data_param"))
    assert torch.equal(made(x)["data"], x), "a data layer's tops, too"
    with pytest.raises(NetError, match=r"3 inputs given; the net takes data, label$"):
        n(x, y, y)
    with pytest.raises(NetError, match="'data' given twice, by its place and by name; give it once"):
        n(x, data=x)


NAMES = ["fast", "training", "forward", "type", "params", "param", "layers", "graph", "phase", "_modules", "_anchor"]
NAMES += ["self", "class", "state_dict", "parameters", "train", "_fast_units", "__class__", "1", "name", "dtype"]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_may_have_any_name(name: str) -> None:
    n = net(DATA + ip(name, "data"), phase="TEST")
    weight, bias = n.params[name]
    expected = {name: torch.nn.functional.linear(X.flatten(1), weight, bias)}
    assert list(n.state_dict()) == [key for key, _ in n.named_parameters()] == [f"{name}.weight", f"{name}.bias"]
    assert n.get_submodule(name) is n.layers[name]
    assert n.get_parameter(f"{name}.weight") is weight
    other = net(DATA + ip(name, "data"), phase="TRAIN")
    other.load_state_dict(n.state_dict())
    for twin in (n, other, copy.deepcopy(n), pickle.loads(pickle.dumps(n))):
        for fast in (False, True):
            twin.fast = fast
            torch.testing.assert_close(twin.train().eval()(data=X), expected)
        assert (twin.training, twin.fast) == (False, True)


@pytest.mark.parametrize("name", ["self", "input.1", "data:0", "names", "inputs", "blobs", "class", "forward"])
def test_a_blob_may_have_any_name(name: str) -> None:
    n = net(DATA.replace('"data"', f'"{name}"') + ip("fc", name), phase="TEST")
    expected = torch.nn.functional.linear(X.flatten(1), *n.params["fc"])
    for found in (n(**{name: X}), n({name: X}), n.forward(**{name: X}), n.extract(["fc"], **{name: X})):
        assert torch.equal(found["fc"], expected)
    assert torch.equal(n.forward_with_loss(**{name: X})[0]["fc"], expected)
    n.reshape(**{name: (5, 3, 8, 8)})
    assert n.blob_shapes["fc"] == (5, 5)


def test_a_call_compiles_without_graph_breaks() -> None:
    n = net(SMALL)
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([0, 4])
    compiled = torch.compile(n, fullgraph=True, backend="aot_eager")
    for found in (compiled(data=x, label=y), compiled(x, y)):
        torch.testing.assert_close(found["loss"], n(x, y)["loss"])
