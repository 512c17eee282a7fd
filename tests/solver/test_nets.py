"""The train net and the test nets of a solver file, in every form it may name them."""

import io
from pathlib import Path

import pytest

from caffe_compat.errors import NetError
from caffe_compat.proto import caffe_pb2, parse_message, read_caffemodel
from caffe_compat.solver import Log, Solver
from tests.solver.conftest import NET, SOLVER, MakeSolver, assert_same_bits, messages, weights


@pytest.mark.parametrize("form", ["net_param", "train_net+test_net", "train_net_param+test_net_param"])
def test_nets_in_every_form(form: str, make_solver: MakeSolver) -> None:
    solver = parse_message(SOLVER, caffe_pb2.SolverParameter())
    net = parse_message(NET, caffe_pb2.NetParameter())
    solver.ClearField("net")
    for field in form.split("+"):
        if field == "test_net":
            solver.test_net.append("net.prototxt")
        elif field == "test_net_param":
            solver.test_net_param.append(net)
        elif field == "train_net":
            solver.train_net = "net.prototxt"
        else:
            getattr(solver, field).CopyFrom(net)
    other = Solver(solver, log=Log(enabled=False))
    other.step(2)
    plain = make_solver()  # starts the random stream anew
    plain.step(2)
    assert_same_bits(weights(plain), weights(other))
    other.close()


def test_train_and_test_states(job: Path) -> None:
    """Stages of solver states join those of the file and decide which layers take part."""
    extra = 'layer { name: "extra" type: "Power" bottom: "ip" top: "extra" include { stage: "%s" } }\n'
    Path("net.prototxt").write_text(NET + extra % "deep" + extra.replace("extra", "more") % "wide")
    param = parse_message(SOLVER, caffe_pb2.SolverParameter())
    param.train_state.stage.append("deep")
    param.test_iter.append(1)
    param.test_state.add()
    param.test_state.add().stage.append("wide")
    solver = Solver(param, log=Log(enabled=False))
    assert "extra" in solver.net.layers
    assert "more" not in solver.net.layers
    assert [set(net.layers) & {"extra", "more"} for net in solver.test_nets] == [set(), {"more"}]
    solver.close()


def test_weights_field(make_solver: MakeSolver) -> None:
    first = make_solver(random_seed=1)
    first.net.save("start.caffemodel")
    second = make_solver(random_seed=2, weights=["start.caffemodel"])
    assert_same_bits(weights(first), weights(second))


def test_how_weights_have_to_fit(make_solver: MakeSolver) -> None:
    """``strict`` and ``reshape`` are for the train net; several files count together."""
    make_solver().net.save("start.caffemodel")
    renamed = parse_message(SOLVER, caffe_pb2.SolverParameter())
    renamed.weights.append("start.caffemodel")
    Path("net.prototxt").write_text(NET.replace('"ip"', '"fc"'))
    with pytest.raises(
        NetError, match=r'^start.caffemodel: does not fit net.prototxt wholly: ignored, .* "ip"; left as'
    ):
        Solver(renamed, log=Log(enabled=False), strict=True)
    stream = io.StringIO()
    Solver(renamed, log=Log(stream)).close()
    assert 'start.caffemodel: ignored, as the net has no such layer: "ip"; left as' in stream.getvalue()

    as_conv = NET.replace("InnerProduct", "Convolution").replace(
        "inner_product_param {", "convolution_param { kernel_size: 4"
    )
    Path("net.prototxt").write_text(as_conv)
    with pytest.raises(
        NetError, match=r"param 0 has shape \(3, 64\) in the file and \(3, 4, 4, 4\) .* or --reshape=ip; else"
    ):
        Solver(renamed, log=Log(enabled=False), strict=True)
    solver = Solver(renamed, log=Log(enabled=False), strict=True, reshape=["ip"])
    stored = read_caffemodel("start.caffemodel")
    assert_same_bits(weights(solver), [blob for layer in stored for blob in layer.blobs if blob is not None])
    solver.close()


def test_what_a_test_net_does_not_share_is_said(make_solver: MakeSolver) -> None:
    Path("other.prototxt").write_text(NET.replace('"ip"', '"fc"'))
    stream = io.StringIO()
    make_solver(log=Log(stream), net=None, train_net="net.prototxt", test_net=["other.prototxt"])
    assert [line for line in messages(stream) if line.startswith("test net")] == [
        'test net #0: the train net has no layers "fc", whose parameters stay as they are; give them the train net\'s '
        "names"
    ]


def test_test_nets_share_parameters(make_solver: MakeSolver) -> None:
    solver = make_solver()
    for name in ("conv", "ip"):
        for ours, theirs in zip(solver.net.params[name], solver.test_nets[0].params[name], strict=True):
            assert ours is theirs


def test_test_net_of_another_shape_is_refused(job: Path) -> None:
    Path("other.prototxt").write_text(NET.replace("num_output: 4", "num_output: 5"))
    text = SOLVER.replace('net: "net.prototxt"', 'train_net: "net.prototxt" test_net: "other.prototxt"')
    Path("solver.prototxt").write_text(text)
    with pytest.raises(NetError, match=r'other.prototxt:\d+: layer "conv" .*param 0: its shape is \(5, 3, 3, 3\)'):
        Solver("solver.prototxt", log=Log(enabled=False))


def test_a_solvers_nets_skip_what_is_under_no_loss(job: Path) -> None:
    side = (
        'layer { name: "side" type: "InnerProduct" bottom: "conv" top: "side" inner_product_param { num_output: 2 } }\n'
    )
    Path("net.prototxt").write_text(NET + side)
    solver = Solver("solver.prototxt", log=Log(enabled=False))
    for net in (solver.net, *solver.test_nets):
        assert [step.detach for step in net.steps if step.layer.name == "side"] == [[True]]
    solver.close()
