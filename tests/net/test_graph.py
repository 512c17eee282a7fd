"""Layers connected: blobs, sharing, who gets gradients."""

import pytest
import torch

from caffe_compat import NetError
from caffe_compat.layers.base import LayerContext
from caffe_compat.net import chains
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.net.graph import Graph
from caffe_compat.proto import Source, caffe_pb2, parse_net
from tests.net.prototxt import DATA, LABEL, LOSS, RELU, conv, ip, net


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


def graph(text: str, phase: str = "TRAIN") -> Graph:
    """The graph of a text without include rules and with at most one reader for each blob."""
    param = parse_net(text)
    param.state.phase = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}[phase]
    return Graph(param, LayerContext(phase=phase, source=Source("net", text)))


def needs(g: Graph) -> dict[str, tuple[bool, list[bool], list[bool]]]:
    """Whether each layer has a backward pass, and which of its bottoms and parameters take a gradient."""
    return {s.layer.name: (s.need_backward, s.bottom_need_backward, s.param_need_backward) for s in g.steps}


def test_blobs_are_numbered_and_in_place_tops_keep_their_number() -> None:
    g = graph(DATA + conv("c1", "data") + RELU + ip("fc", "c1"))
    assert g.blob_names == ["data", "c1", "fc"]
    assert [(step.bottoms, step.tops) for step in g.steps] == [([], [0]), ([0], [1]), ([1], [1]), ([1], [2])]
    assert g.shapes == [(2, 3, 8, 8), (2, 4, 6, 6), (2, 5)]
    assert (g.inputs, g.outputs) == (["data"], ["fc"])
    assert list(g.params) == ["c1", "fc"]


def test_a_loss_layer_makes_up_its_top() -> None:
    g = graph(DATA + LABEL + ip("fc", "data") + LOSS.replace(' top: "loss"', ""))
    assert g.blob_names[-1] == "(automatic)"
    assert g.steps[-1].loss_weights == [1.0]
    assert g.outputs == []


def test_learnable_parameters_and_their_factors() -> None:
    fields = "param { lr_mult: 2 decay_mult: 0.5 } param { lr_mult: 0 }"
    g = graph(DATA + LABEL + conv("c1", "data", param=fields) + ip("fc", "c1") + LOSS)
    assert [(p.layer, p.index, p.lr_mult, p.decay_mult) for p in g.learnable] == [
        ("c1", 0, 2.0, 0.5),
        ("c1", 1, 0.0, 1.0),
        ("fc", 0, 1.0, 1.0),
        ("fc", 1, 1.0, 1.0),
    ]
    assert [p.parameter.requires_grad for p in g.learnable] == [True, False, True, True]


def test_who_gets_gradients() -> None:
    """Nothing below the lowest trained layer; labels never; what leads to no loss neither."""
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    text = DATA + LABEL + conv("c1", "data", param=frozen) + ip("f0", "c1") + ip("fc", "f0", param=frozen) + LOSS
    side = DATA.replace('"in"', '"in2"').replace('"data"', '"side"') + ip("aside", "side")
    assert needs(graph(text + side)) == {
        "in": (False, [], []),
        "lab": (False, [], []),
        "c1": (False, [False], [False, False]),
        "f0": (True, [False], [True, True]),
        "fc": (True, [True], [False, False]),
        "loss": (True, [True, False], []),
        "in2": (False, [], []),
        "aside": (False, [False], [True, True]),
    }


def test_force_backward_asks_for_all_but_labels() -> None:
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    g = graph("force_backward: true\n" + DATA + LABEL + ip("fc", "data", param=frozen) + LOSS)
    assert needs(g)["fc"] == (True, [True], [True, True])
    assert needs(g)["loss"] == (True, [True, False], [])


def test_propagate_down_cuts_everything_below() -> None:
    text = DATA + LABEL + ip("f0", "data") + ip("fc", "f0") + LOSS
    g = graph(text.replace('bottom: "f0"', 'bottom: "f0" propagate_down: false'))
    assert needs(g)["fc"] == (True, [False], [True, True])
    assert needs(g)["f0"] == (False, [False], [True, True])
    assert [step.detach for step in g.steps if step.layer.name == "fc"] == [[True]]


def test_a_layers_own_phase() -> None:
    drop = 'layer { name: "d" type: "Dropout" bottom: "data" top: "d" phase: TEST }'
    g = graph(DATA + drop)
    assert [step.layer.phase for step in g.steps] == ["TRAIN", "TEST"]
    assert g.steps[1].layer.context.source.name == "net"


def test_permissive_sharing_compares_counts() -> None:
    fields = 'param { name: "w" share_mode: PERMISSIVE } inner_product_param { bias_term: false num_output: '
    one = f'layer {{ name: "a" type: "InnerProduct" bottom: "x" top: "a" {fields} 6 }} }}\n'
    two = f'layer {{ name: "b" type: "InnerProduct" bottom: "y" top: "b" {fields} 4 }} }}\n'
    inputs = 'layer {{ name: "in" type: "Input" top: "x" top: "y" input_param {{ {} }} }}'
    narrow, wide = "shape { dim: 1 dim: 2 }", "shape { dim: 1 dim: 3 }"
    g = graph(inputs.format(narrow + wide) + one + two)
    a, b = (step.layer for step in g.steps[1:])
    assert a.blobs[0] is b.blobs[0]
    assert (a.blob(0).shape, b.blob(0).shape) == ((6, 2), (4, 3))
    assert len(g.learnable) == 1
    with pytest.raises(NetError, match=r'cannot share param "w" of layer "a": its shape is \(6, 2\), this.*\(4, 2\)$'):
        graph(inputs.format(narrow + narrow) + one + two)
    with pytest.raises(NetError, match="share_mode: PERMISSIVE compares only counts"):
        graph(inputs.format(narrow + wide) + one + two.replace("PERMISSIVE", "STRICT"))


def test_a_multiplier_may_be_given_by_any_of_the_sharing_layers() -> None:
    fields = 'param {{ name: "w" {} }} inner_product_param {{ bias_term: false num_output: 1 }}'
    layers = "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {fields.format(mult)} }}\n'
        for name, bottom, mult in (("a", "x", ""), ("b", "y", "lr_mult: 3"), ("c", "z", "decay_mult: 0 lr_mult: 3"))
    )
    inputs = 'layer { name: "in" type: "Input" top: "x" top: "y" top: "z" input_param { shape { dim: 1 dim: 1 } } }'
    (shared,) = graph(inputs + layers).learnable
    assert (shared.layer, shared.lr_mult, shared.decay_mult) == ("a", 3.0, 0.0)


def test_values_go_from_step_to_step() -> None:
    g = graph(DATA.replace("dim: 2 dim: 3 dim: 8 dim: 8", "dim: 1 dim: 2") + ip("fc", "data", outputs=1))
    with torch.no_grad():
        g.params["fc"][0].copy_(torch.tensor([[3.0, 4.0]]))
    values = {0: torch.tensor([[1.0, 10.0]])}
    g.steps[1].run(values)
    assert values[1].tolist() == [[43.0]]
    g.set_top_shapes(g.steps[1], [(7, 1)])
    assert g.shapes[1] == (7, 1)


def test_only_a_solver_leaves_out_what_is_under_no_loss() -> None:
    g = graph(DATA + LABEL + ip("f0", "data") + ip("fc", "f0"))
    assert not any(any(step.detach) for step in g.steps)
    g.skip_backward()
    assert {step.layer.name: step.detach for step in g.steps if step.bottoms} == {"f0": [False], "fc": [True]}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            'type: "Input" top: "x" input_param { shape { dim: 1 dim: 2147483648 } }',
            'top "x" has shape .*, 2147483648 values',
        ),
        ('type: "Input" top: "x" input_param { shape { dim: 9223372036854775807 dim: 2 } }', 'top "x" has shape'),
        (
            'type: "DummyData" top: "x" dummy_data_param { shape { dim: 1000000 dim: 1000000 } }',
            "dummy_data_param has shape",
        ),
        ('type: "Parameter" top: "x" parameter_param { shape { dim: 1000000000000 } }', "parameter weight has shape"),
        (
            'type: "InnerProduct" bottom: "data" top: "x" inner_product_param { num_output: 2000000000 }',
            r"parameter weight has shape \(2000000000, 192\), 384000000000 values",
        ),
        (
            'type: "Convolution" bottom: "data" top: "x" convolution_param { num_output: 2 kernel_size: 2000000000 }',
            "parameter weight has shape",
        ),
        (
            'type: "Convolution" bottom: "data" top: "x" '
            "convolution_param { num_output: 2 kernel_size: 3 pad: 2000000000 }",
            'top "x" has shape',
        ),
        ('type: "Tile" bottom: "data" top: "x" tile_param { tiles: 2000000000 }', 'top "x" has shape'),
    ],
)
@pytest.mark.parametrize("shapes_only", [False, True])
def test_blobs_that_caffe_cannot_count(layer: str, message: str, shapes_only: bool) -> None:
    param = parse_net(DATA + f'layer {{ name: "big" {layer} }}')
    with pytest.raises(NetError, match=rf'layer "big" \(\w+\): {message}.*; expected at most 2147483647, as in Caffe'):
        Graph(param, LayerContext(source=Source("n.prototxt"), shapes_only=shapes_only))


#: what allocators say, and the size in it
NO_MEMORY = [
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800 bytes."), "800 bytes"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total of"), "2.50 GiB"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ""),
    (MemoryError(), ""),
]


@pytest.mark.parametrize(("problem", "size"), NO_MEMORY)
def test_no_memory_names_the_layer_and_its_blobs(
    problem: Exception, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> torch.Tensor:
        raise problem

    n = net(DATA + conv("c1", "data"))
    asked = rf" \({size}\)" if size else ""
    blobs = (
        r'layer "c1" \(Convolution\): no memory for bottom 0 of shape \(2, 3, 8, 8\), top "c1" of shape \(2, 4, 6, 6\)'
    )
    line = f"{blobs}{asked}; make batches or layers smaller$"
    monkeypatch.setattr(chains, "fast_conv", fail)
    n.fast = True
    with pytest.raises(NetError, match=line):
        n(data=torch.zeros(2, 3, 8, 8))
    n.fast = False
    engine = BlobEngine(n)
    monkeypatch.setattr(n.layers["c1"], "forward", fail)
    for run in (lambda: n(data=torch.zeros(2, 3, 8, 8)), engine.forward):
        with pytest.raises(NetError, match=line):
            run()
    n = net(DATA + conv("c1", "data"))
    monkeypatch.setattr(torch.Tensor, "double", fail)
    parameters = r"no memory for its parameters, of shapes \(4, 3, 3, 3\), \(4,\)"
    with pytest.raises(NetError, match=rf'layer "c1" \(Convolution\): {parameters}{asked}; make'):
        n.double()
    monkeypatch.setattr(n.layers["in"], "next_batch", fail)
    with pytest.raises(NetError, match=rf'layer "in" \(Input\): no memory for a batch of \(2, 3, 8, 8\){asked}; make'):
        n()
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda shape, **how: zeros(shape, **how) if shape != (4, 3, 3, 3) else fail())
    with pytest.raises(NetError, match=rf"no memory for parameter weight of shape \(4, 3, 3, 3\){asked}; make"):
        net(DATA + conv("c1", "data"))


def test_other_errors_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("another")

    n = net(DATA + conv("c1", "data"))
    monkeypatch.setattr(n.layers["c1"], "forward", fail)
    with pytest.raises(RuntimeError, match=r"^another$"):
        n(data=torch.zeros(2, 3, 8, 8))


def test_what_does_not_fit_is_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host here has 4000 bytes."""
    monkeypatch.setattr("caffe_compat.layers.base.shortage", lambda size: 4000 if size > 4000 else None)
    taken = "; make batches or layers smaller"
    with pytest.raises(
        NetError, match=rf"parameter weight of shape \(200, 3, 3, 3\) takes 21600 bytes, and 4000 .*{taken}"
    ):
        net(DATA + conv("c1", "data").replace("num_output: 4", "num_output: 200"))
    dummy = 'layer { name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 20 dim: 30 } } }'
    line = r'layer "d" \(DummyData\): holding \(20, 30\) and \(20, 30\) takes 4800 bytes, and 4000 are free'
    with pytest.raises(NetError, match=line):
        net(dummy)
    window = "pooling_param { kernel_size: 7 stride: 40 engine: CUDNN }"
    pool = net(DATA + f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" {window} }}')
    padded = r"bottom 0, padded so that every window lies inside, of shape \(2, 3, 47, 47\) takes 53016 bytes"
    with pytest.raises(NetError, match=rf'layer "p" \(Pooling\): {padded}'):
        pool(data=torch.zeros(2, 3, 8, 8))
    n = net(DATA + conv("c1", "data") + RELU + ip("fc", "c1"))  # 288 and 10 values
    n(data=torch.zeros(2, 3, 8, 8))
    assert n(data=torch.zeros(5, 3, 8, 8))["fc"].shape == (5, 5)
    blobs = r'a pass, whose largest blob is top "c1" of shape \(7, 4, 6, 6\), takes 4172 bytes'
    with pytest.raises(NetError, match=rf'layer "c1" \(Convolution\): {blobs}'):
        n(data=torch.zeros(7, 3, 8, 8))
    n.reshape(data=(7, 3, 8, 8))
    with pytest.raises(NetError, match=rf'layer "c1" \(Convolution\): {blobs}'):
        BlobEngine(n)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("pool: AVE kernel_size: 2 stride: 2147483648", r"stride \(2147483648, 2147483648\); at most 2147483647"),
        ("pool: MAX kernel_size: 3 stride: 65536", r"bottom 0, padded so that every window lies inside, has shape"),
    ],
)
def test_windows_of_pooling_that_no_memory_holds(pool: str, message: str) -> None:
    layer = f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param {{ {pool} engine: CUDNN }} }}'
    with pytest.raises(NetError, match=rf'layer "p" \(Pooling\): .*{message}'):
        net(DATA + layer)(data=torch.zeros(2, 3, 8, 8))


def test_too_many_timesteps() -> None:
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 10000000 dim: 1 dim: 1 } } }
    layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 10000000 dim: 1 } } }
    layer { name: "r" type: "LSTM" bottom: "x" bottom: "c" top: "r" recurrent_param { num_output: 1 } }"""
    with pytest.raises(NetError, match=r'layer "r" \(LSTM\): bottom 0 has 10000000 timesteps; expected at most 100000'):
        net(text)
