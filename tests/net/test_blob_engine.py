"""Caffe's own way of running a net: which diffs are overwritten, added up, shared, and in what order."""

import pytest
import torch

from caffe_compat import Net, NetError
from caffe_compat.layers.input import Input
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.net.blobs import ParamBlob, TensorBlob
from caffe_compat.proto import parse_net

IN = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
FC = (
    'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" '
    'inner_product_param { num_output: 2 weight_filler { type: "constant" value: 2 } } }\n'
)
X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def power(name: str, bottom: str, top: str, scale: float, extra: str = "") -> str:
    """top = (scale bottom)."""
    blobs = f'bottom: "{bottom}" top: "{top}"'
    return f'layer {{ name: "{name}" type: "Power" {blobs} {extra} power_param {{ scale: {scale} }} }}\n'


class Engine:
    """A BlobEngine whose blobs are reached by name."""

    def __init__(self, text: str, phase: str = "TRAIN", force: bool = True) -> None:
        self.net = Net(parse_net(("force_backward: true\n" if force else "") + text), phase=phase)
        self.engine = BlobEngine(self.net)

    def blob(self, name: str) -> TensorBlob:
        return self.engine.blobs[self.net.blob_names.index(name)]

    def data(self, name: str) -> list[object]:
        return self.blob(name).data.tolist()

    def diff(self, name: str) -> list[object]:
        return self.blob(name).diff.tolist()

    def param(self, layer: str, index: int = 0) -> ParamBlob:
        return self.engine.params[list(self.net.layers).index(layer)][index]

    def number(self, layer: str) -> int:
        return list(self.net.layers).index(layer)

    def set(self, name: str, values: object, diff: bool = False) -> None:
        blob = self.blob(name)
        (blob.diff if diff else blob.data).copy_(torch.tensor(values))


# -- forward ----------------------------------------------------------------------------


def test_forward_of_a_range_uses_what_stands_in_the_blobs() -> None:
    e = Engine(IN + FC + power("p", "y", "z", 10) + power("q", "z", "w", 10))
    e.set("x", X)
    e.engine.forward()
    assert e.data("y") == [[12, 12], [30, 30]]
    assert e.data("w") == [[1200, 1200], [3000, 3000]]
    e.set("y", [[1, 2], [3, 4]])
    e.engine.forward(e.number("p"), e.number("p"))
    assert e.data("z") == [[10, 20], [30, 40]]
    assert e.data("w") == [[1200, 1200], [3000, 3000]], "layers behind the range did not run"
    e.engine.forward(e.number("q"))
    assert e.data("w") == [[100, 200], [300, 400]]
    assert e.data("y") == [[1, 2], [3, 4]], "nor did those before it"


def test_the_loss_is_weighted_by_the_diffs() -> None:
    e = Engine(IN + power("a", "x", "a", 2, "loss_weight: 3") + power("b", "a", "b", 1, "loss_weight: 10"))
    e.set("x", X)
    assert e.engine.forward() == 3 * (2 * 21) + 10 * (2 * 21)
    # The weights stand in the diff of the Split's first top, where a caller may change them.
    assert e.diff("a_a_0_split_0") == [[3.0] * 3] * 2
    assert e.diff("b") == [[10.0] * 3] * 2
    e.set("b", [[1.0, 0, 0], [0, 0, 0]], diff=True)
    assert e.engine.forward() == 3 * (2 * 21) + 2 * 1
    assert e.engine.forward(e.number("b")) == 2


def test_a_top_that_outgrows_its_memory_loses_its_loss_weight() -> None:
    e = Engine(IN + power("a", "x", "a", 1, "loss_weight: 3"))
    e.set("x", X)
    assert e.engine.forward() == 63
    for rows, loss in ((1, 9), (4, 0)):
        e.blob("x").reshape((rows, 3))
        e.engine.reshape()
        e.blob("x").data.fill_(1)
        assert e.engine.forward() == loss


def test_forward_notices_a_reshaped_input() -> None:
    e = Engine(IN + FC)
    e.blob("x").reshape((5, 3))
    e.engine.forward()
    assert e.blob("y").shape == (5, 2)
    assert e.net.blob_shapes["y"] == (5, 2)


def test_a_top_whose_size_depends_on_the_data() -> None:
    text = IN + 'layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 2 dim: 1 } } }\n'
    e = Engine(text + 'layer { name: "f" type: "Filter" bottom: "x" bottom: "s" top: "f" }\n', force=False)
    e.set("x", X)
    for selector, rows in (([[0], [1]], [X[1]]), ([[1], [1]], X), ([[0], [0]], [])):
        e.set("s", selector)
        e.engine.forward()
        assert e.data("f") == rows
        assert e.net.blob_shapes["f"] == (len(rows), 3)


# -- backward ---------------------------------------------------------------------------


def test_bottoms_diffs_are_overwritten_and_parameters_added_up() -> None:
    e = Engine(IN + FC)
    e.set("x", X)
    e.engine.forward()
    e.set("y", [[1.0, 0], [0, 10]], diff=True)
    for times in (1, 2, 3):
        e.set("x", [[99.0] * 3] * 2, diff=True)
        e.engine.backward()
        assert e.diff("x") == [[2, 2, 2], [20, 20, 20]]
        assert e.param("fc").diff.tolist() == [[1 * times, 2 * times, 3 * times], [40 * times, 50 * times, 60 * times]]
        assert e.param("fc", 1).diff.tolist() == [1 * times, 10 * times]
    e.engine.clear_param_diffs()
    assert e.param("fc").diff.tolist() == [[0.0] * 3] * 2
    assert e.diff("x") == [[2, 2, 2], [20, 20, 20]], "those of blobs stay"


@pytest.mark.parametrize(
    ("fields", "replaced"),
    [
        ("axis: 0 num_axes: -1", True),  # Caffe sums straight into the diff
        ("axis: 1", False),
    ],
)
def test_the_scale_of_a_whole_bottom_is_the_parameter_whose_diff_is_overwritten(fields: str, replaced: bool) -> None:
    layer = f'layer {{ name: "s" type: "Scale" bottom: "x" top: "y" scale_param {{ {fields} bias_term: true }} }}\n'
    e = Engine(IN + layer)
    e.set("x", X)
    e.engine.forward()
    e.set("y", [[1.0] * 3] * 2, diff=True)
    once = torch.tensor(X) if replaced else torch.tensor(X).sum(0)
    for times in (1, 2, 3):
        e.engine.backward()
        assert torch.equal(e.param("s").diff, once if replaced else times * once)
        assert (e.param("s", 1).diff == times * (1 if replaced else 2)).all()


def test_backward_of_a_range() -> None:
    e = Engine(IN + power("p", "x", "p", 2) + power("q", "p", "q", 3) + power("r", "q", "r", 5))
    e.engine.forward()
    e.set("r", [[1.0] * 3] * 2, diff=True)
    e.engine.backward(None, e.number("q"))
    assert e.diff("p") == [[15.0] * 3] * 2
    assert e.diff("x") == [[0.0] * 3] * 2
    e.set("p", [[7.0] * 3] * 2, diff=True)
    e.engine.backward(e.number("p"))
    assert e.diff("x") == [[14.0] * 3] * 2


def test_split_adds_up() -> None:
    e = Engine(IN + power("p", "x", "p", 2) + power("q", "x", "q", 3))
    e.set("x", X)
    e.engine.forward()
    e.set("p", [[1.0] * 3] * 2, diff=True)
    e.set("q", [[10.0] * 3] * 2, diff=True)
    e.engine.backward()
    assert e.diff("x_in_0_split_0") == [[2.0] * 3] * 2
    assert e.diff("x_in_0_split_1") == [[30.0] * 3] * 2
    assert e.diff("x") == [[32.0] * 3] * 2
    assert e.blob("x_in_0_split_1").data.data_ptr() == e.blob("x").data.data_ptr()


def test_in_place_layers_see_their_bottom_as_it_was() -> None:
    e = Engine(IN + FC + 'layer { name: "s" type: "Sigmoid" bottom: "y" top: "y" }\n')
    e.set("x", [[0.0] * 3, [1.0, 0, 0]])
    e.engine.forward()
    s = torch.tensor([[0.0, 0.0], [2.0, 2.0]]).sigmoid()
    assert torch.equal(e.blob("y").data, s)
    e.set("y", [[1.0, 1.0]] * 2, diff=True)
    e.engine.backward()
    assert torch.allclose(e.blob("y").diff, s * (1 - s))
    assert torch.allclose(e.blob("x").diff, (s * (1 - s)).sum(1, keepdim=True) * 2)


def test_shared_parameters_add_up_over_their_layers() -> None:
    fc = FC.replace("inner_product_param {", 'param { name: "w" } inner_product_param { bias_term: false ')
    other = fc.replace('"fc"', '"fc2"').replace('top: "y"', 'top: "z"')
    e = Engine(IN + fc + other)
    e.set("x", X)
    e.engine.forward()
    e.set("y", [[1.0, 0], [0, 0]], diff=True)
    e.set("z", [[10.0, 0], [0, 0]], diff=True)
    e.engine.backward()
    assert e.param("fc").diff.tolist() == [[11, 22, 33], [0, 0, 0]]
    assert e.param("fc2").diff.tolist() == e.param("fc").diff.tolist()


def test_layers_without_a_loss_below_do_not_run_backward() -> None:
    e = Engine(IN + FC + power("p", "y", "z", 2), force=False)
    e.engine.forward()
    e.set("z", [[1.0, 1.0]] * 2, diff=True)
    e.engine.backward()
    assert e.diff("y") == [[0, 0]] * 2
    assert e.param("fc").diff.tolist() == [[0.0] * 3] * 2


def test_backward_without_forward_uses_the_blobs_as_they_are() -> None:
    e = Engine(IN + FC)
    e.set("x", X)
    e.set("y", [[1.0, 0], [0, 10]], diff=True)
    e.engine.backward()
    assert e.diff("x") == [[2, 2, 2], [20, 20, 20]]
    assert e.param("fc").diff.tolist() == [[1, 2, 3], [40, 50, 60]]


def test_backward_needs_a_gradient() -> None:
    arg_max = Engine(IN + 'layer { name: "m" type: "ArgMax" bottom: "x" top: "m" }\n')
    arg_max.engine.forward()
    with pytest.raises(NetError, match="ArgMax has no backward, but force_backward or propagate_down asks for one"):
        arg_max.engine.backward()


def test_backward_in_the_middle_of_a_reshape_says_so() -> None:
    e = Engine(IN + FC + power("p", "y", "z", 2))
    e.engine.forward()
    e.blob("x").reshape((5, 3))
    with pytest.raises(NetError, match=r'"fc" .*a top has shape \(2, 2\), the bottoms now make \(5, 2\); run forward'):
        e.engine.backward()


# -- memory that layers share ------------------------------------------------------------

FLATTEN = 'layer { name: "s" type: "Flatten" bottom: "p" top: "s" flatten_param { axis: 0 } }\n'
RESHAPE = 'layer { name: "s" type: "Reshape" bottom: "p" top: "s" reshape_param { shape { dim: -1 } } }\n'


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (FLATTEN, (6,)),
        (RESHAPE, (6,)),
        ('layer { name: "s" type: "Concat" bottom: "p" top: "s" }\n', (2, 3)),
        ('layer { name: "s" type: "Slice" bottom: "p" top: "s" }\n', (2, 3)),
    ],
)
def test_a_layer_that_only_renames_its_bottom_shares_all_of_it(layer: str, shape: tuple[int, ...]) -> None:
    e = Engine(IN + power("p", "x", "p", 2) + layer)
    e.set("x", X)
    e.engine.forward()
    assert e.blob("s").shape == shape
    assert e.blob("s").data.flatten().tolist() == [2, 4, 6, 8, 10, 12]
    e.blob("s").data.view(-1)[5] = -1
    e.blob("s").diff.view(-1)[5] = 8
    assert e.data("p") == [[2, 4, 6], [8, 10, -1]]
    e.engine.backward()
    assert e.diff("p") == [[0, 0, 0], [0, 0, 8]], "Flatten's from the backward pass on, the others' before"
    assert e.diff("x") == [[0, 0, 0], [0, 0, 16]]
    # Also after a reshape, in which Caffe would point both to the new memory.
    e.blob("x").reshape((4, 3))
    e.engine.reshape()
    e.blob("x").data.fill_(1)
    e.engine.forward()
    assert e.blob("s").data.flatten().tolist() == [2.0] * 12


def test_flatten_without_backward_keeps_its_own_diff() -> None:
    e = Engine(IN + power("p", "x", "p", 2) + FLATTEN, force=False)
    e.engine.forward()
    e.blob("s").diff.fill_(5)
    assert e.diff("p") == [[0.0] * 3] * 2
    e.blob("s").data.fill_(5)
    assert e.data("p") == [[5.0] * 3] * 2


def test_a_parameter_layers_top_is_its_parameter() -> None:
    text = 'layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 } } }\n'
    e = Engine(text + power("p", "w", "p", 3))
    e.set("w", [1.0, 2.0])
    assert e.param("w").data.tolist() == [0, 0], "from its first forward on, as in Caffe"
    e.engine.forward()
    e.set("w", [1.0, 2.0])
    assert e.param("w").data.tolist() == [1, 2]
    e.engine.forward()
    assert e.data("p") == [3, 6]
    e.set("p", [1.0, 10.0], diff=True)
    e.engine.backward()
    assert e.param("w").diff.tolist() == [3, 30]
    assert e.diff("w") == [3, 30]


def test_input_blobs_begin_with_what_their_layer_holds() -> None:
    e = Engine(IN + FC)
    assert isinstance(e.net.layers["in"], Input)
    e.net.layers["in"].held[0] = torch.tensor(X)
    again = BlobEngine(e.net)
    assert again.blobs[0].data.tolist() == X
    again.blobs[0].data.fill_(0)
    assert e.net.next_batch()["x"].tolist() == X, "the layer's own stays"


def test_a_net_can_take_the_engines_input_blobs() -> None:
    e = Engine(IN + FC)
    e.engine.lead_inputs()
    e.set("x", X)
    assert e.net.next_batch()["x"].tolist() == X
    assert e.net(x=torch.zeros(2, 3))["y"].tolist() == [[0, 0]] * 2
    assert e.data("x") == X, "what is given to the net itself does not enter the blobs"
