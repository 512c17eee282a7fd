"""What every layer inherits: parameters, messages, the answers of a class that declares nothing."""

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, LayerContext, Shape, count
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import Source, caffe_pb2, parse_net
from tests.layers import harness

TEXT = 'name: "n"\nlayer { name: "it" }\n'


class Shift(Layer):
    """Adds a vector to each row."""

    type = "Shift"
    graph_safe = True

    def setup(self, bottom: Shape) -> None:
        self.add_blob("shift", bottom[1:], lambda t: t.fill_(2))
        self.add_blob("statistics", (1,), trainable=False)

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom + self.blob(0)


class QuietShift(Shift):
    """Does not say that it is safe to record."""


def shift(**context: object) -> Shift:
    layer = Shift(caffe_pb2.LayerParameter(name="it", top=["y"]), LayerContext(**context))  # type: ignore[arg-type]
    layer.setup((4, 3))
    return layer


def test_blobs_keep_their_order_and_dtype() -> None:
    layer = shift(dtype=torch.float64)
    assert layer.blob_names == ["shift", "statistics"]
    assert layer.blob_shapes == [(3,), (1,)]
    assert [blob.tolist() for blob in layer.blobs] == [[2.0] * 3, [0.0]]
    assert [blob.requires_grad for blob in layer.blobs] == [True, False]
    assert {blob.dtype for blob in layer.blobs} == {torch.float64}
    assert list(layer.state_dict()) == ["shift", "statistics"]
    assert layer(torch.ones(4, 3, dtype=torch.float64)).tolist() == [[3.0] * 3] * 4


def test_shapes_only_takes_no_memory() -> None:
    layer = shift(shapes_only=True)
    assert layer.blobs[0].is_meta
    assert layer.blob_shapes == [(3,), (1,)]


@pytest.mark.parametrize("layer_type", sorted(layer_types()))
def test_no_type_needs_memory_for_its_shapes(layer_type: str) -> None:
    layer_class = layer_types()[layer_type]
    if layer_class.is_source or layer_class.writes_files or layer_type == "Python":  # files, and the user's own code
        return
    for number in range(5):
        example = layer_class.example(Dice(layer_type, number))
        found = {}
        for shapes_only in (False, True):
            layer = make_layer(layer_class, example, shapes_only=shapes_only)
            found[shapes_only] = layer.blob_shapes, layer.infer_shapes(*(b.shape for b in example.bottoms))
            assert all(blob.is_meta == shapes_only for blob in layer.blobs)
        assert found[True] == found[False]


def make_layer(layer_class: type[Layer], example: Example, *, shapes_only: bool) -> Layer:
    param = text_format.Parse(example.fields, caffe_pb2.LayerParameter(name="it"))
    param.bottom.extend(f"x{i}" for i in range(len(example.bottoms)))
    param.top.extend(f"y{i}" for i in range(example.tops))
    layer = layer_class(param, LayerContext(shapes_only=shapes_only))
    layer.setup(*(bottom.shape for bottom in example.bottoms))
    return layer


def test_a_shared_blob_is_seen_in_the_layers_own_shape() -> None:
    layer = shift()
    owner = torch.nn.Parameter(torch.tensor([[1.0], [2.0], [3.0]]))
    layer.share_blob(0, owner)
    assert layer.blobs[0] is owner
    assert layer.blob(0).tolist() == [1.0, 2.0, 3.0]
    assert layer(torch.zeros(1, 3)).tolist() == [[1.0, 2.0, 3.0]]


def test_graph_safety_is_not_inherited() -> None:
    assert Shift.graph_safe
    assert not QuietShift.graph_safe


def test_what_a_class_says_that_declares_nothing() -> None:
    layer = shift()
    assert layer.shared_memory(need_backward=True) is None
    assert layer.index_limits((4, 3)) == {}
    assert layer.flops([(4, 3)], [(4, 3)]) == 0
    assert not layer.replaces_diff(0, (4, 3))
    assert layer.source_state() == {}
    assert Shift.drawing_details(layer.param) == []
    example = Shift.example(Dice("Shift", 0))
    assert example.fields == ""
    assert len(example.bottoms) == 1
    with pytest.raises(TypeError, match="Shift is not a data source"):
        layer.next_batch()
    with pytest.raises(TypeError, match="Layer lacks infer_shapes"):
        Layer(caffe_pb2.LayerParameter()).infer_shapes()


def test_messages_name_file_line_layer_and_type() -> None:
    layer = shift(source=Source("net.prototxt", TEXT))
    assert layer.where() == 'net.prototxt:2: layer "it" (Shift)'
    with pytest.raises(NetError, match=r'^net\.prototxt:2: layer "it" \(Shift\): is wrong$'):
        layer.fail("is wrong")
    with pytest.warns(UserWarning, match=r'^net\.prototxt:2: layer "it" \(Shift\): is odd$'):
        layer.warn("is odd")
    with pytest.raises(NetError, match=r'layer "it" \(Shift\): Shift has no ONNX form'):
        layer.to_onnx(None, None)  # type: ignore[arg-type]


def test_a_fillers_error_names_the_blob() -> None:
    def refuse(_: Tensor) -> None:
        raise NetError("no such filler")

    with pytest.raises(NetError, match=r'layer "it" \(Shift\): weight: no such filler'):
        shift().add_blob("weight", (2,), refuse)


@pytest.mark.parametrize(("axis", "rank", "found"), [(0, 3, 0), (2, 3, 2), (-1, 3, 2), (-3, 3, 0)])
def test_canonical_axis(axis: int, rank: int, found: int) -> None:
    assert shift().canonical_axis(axis, rank) == found


@pytest.mark.parametrize("axis", [3, -4])
def test_canonical_axis_outside(axis: int) -> None:
    with pytest.raises(NetError, match=f"axis is {axis}; expected -3 to 2 for a 3-axis bottom"):
        shift().canonical_axis(axis, 3)


def test_count() -> None:
    assert count((2, 3, 4)) == 24
    assert count((2, 3, 4), 1) == 12
    assert count((2, 3, 4), 0, 2) == 6
    assert count((2, 3, 4), 3) == 1
    assert count((2, 0, 4)) == 0
    assert count(()) == 1


def test_a_source_says_what_its_state_belongs_to() -> None:
    """Defaults that are written out make no difference, nor do fields that change no batch."""
    text = "layer {{ name: 'x' type: 'Data' top: 'y' data_param {{ source: 'db' batch_size: 4 {} }} {} }}"

    class Source(Layer):
        type = "Data"
        param_fields = ("data_param", "transform_param")
        state_ignores = ("data_param.prefetch",)

    def identity(fields: str = "", messages: str = "") -> dict[str, str]:
        return Source(parse_net(text.format(fields, messages)).layer[0]).source_identity()

    plain = {"type": "Data", "data_param.source": "db", "data_param.batch_size": "4"}
    assert identity() == identity("rand_skip: 0 prefetch: 9", "transform_param { mirror: false }") == plain
    assert identity("", "transform_param { mean_value: 1 mean_value: 2 }") == plain | {
        "transform_param.mean_value": "[1.0, 2.0]"
    }


@pytest.mark.parametrize(
    ("layer_type", "fields", "shapes", "said"),
    [
        ("LRN", "lrn_param { k: 2 }", [(1, 3, 4, 4)], "k is 2, which OpenCV 4 took for 1"),
        ("LRN", "", [(1, 3, 4, 4)], ""),
        ("Axpy", "", [(1, 3), (1, 3, 4, 4), (1, 3, 4, 4)], "where OpenCV 4 computed a y + x"),
        (
            "PriorBox",
            "prior_box_param { min_size: 2.5 img_size: 9 }",
            [(1, 3, 4, 4), (1, 3, 9, 9)],
            "are cut to whole pixels and edges outside the image stay, as clip is not given and the image's size is",
        ),
        ("PriorBox", "prior_box_param { min_size: 2 clip: false }", [(1, 3, 4, 4), (1, 3, 9, 9)], ""),
        ("Interp", "interp_param { shrink_factor: 2 pad_end: -1 }", [(1, 3, 4, 4)], "crop and shrink_factor counts"),
        ("Interp", "interp_param { zoom_factor: 2 }", [(1, 3, 4, 4)], ""),
        (
            "Proposal",
            "proposal_param { ratio: 1 scale: 1 }",
            [(1, 2, 4, 4), (1, 4, 4, 4), (1, 3)],
            "OpenCV 4 had no least size and post_nms_topn rows",
        ),
        ("Resample", "resample_param { height: 2 width: 2 type: LINEAR }", [(1, 3, 4, 4)], "LINEAR is FlowNet's"),
        (
            "DetectionOutput",
            "detection_output_param { num_classes: 2 keep_top_k: 9 nms_param { eta: 0.5 } }",
            [(1, 8), (1, 4), (1, 2, 8)],
            "; nms_param.eta counts, where OpenCV 4 had the best score first and rows of zeros up to keep_top_k, 9",
        ),
        ("ReLU", "", [(1, 3)], ""),
    ],
)
def test_what_opencv_computed_otherwise(layer_type: str, fields: str, shapes: list[tuple[int, ...]], said: str) -> None:
    found = harness.make_layer(layer_types()[layer_type], fields, *shapes).differs_from_opencv()
    assert said in found
    assert bool(said) == bool(found)
