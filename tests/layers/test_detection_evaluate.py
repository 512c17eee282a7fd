from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_compat.errors import CaffeCompatError, NetError
from caffe_compat.layers.base import LayerContext
from caffe_compat.layers.detection_evaluate import DetectionEvaluate
from caffe_compat.proto import caffe_pb2
from tests.layers.harness import make_layer, on_devices

GOLDEN = Path(__file__).parent.parent / "golden" / "forks" / "detection_evaluate.npz"
#: of the images in the golden file, in order
SIZES = "a 100 200\nb 320 240\n"
SHAPES = ((1, 1, 2, 7), (1, 1, 1, 8))
BOX, FAR = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]


@on_devices
def test_as_ssd(device: str, tmp_path: Path) -> None:
    sizes = tmp_path / "sizes.txt"
    sizes.write_text(SIZES)
    with np.load(GOLDEN) as file:
        data = dict(file)
    for number, fields in enumerate(data["fields"]):
        param = caffe_pb2.LayerParameter(name="it", type="DetectionEvaluate")
        text_format.Parse(str(fields).replace("SIZES", str(sizes)), param)
        found, truth = (torch.from_numpy(data[f"{number}_{name}"]).to(device) for name in ("found", "truth"))
        layer = DetectionEvaluate(param, LayerContext())
        layer.setup(found.shape, truth.shape)
        layer.infer_shapes(found.shape, truth.shape)
        rows = layer(found, truth).cpu().numpy().reshape(-1, 5)
        np.testing.assert_array_equal(rows, data[f"{number}_rows"], err_msg=str(fields))


def evaluator(fields: str = "") -> DetectionEvaluate:
    return make_layer(DetectionEvaluate, f"detection_evaluate_param {{ num_classes: 3 {fields} }}", *SHAPES)


def test_a_second_hit_is_false_and_a_difficult_one_is_neither() -> None:
    found = torch.tensor([[0, 1, 0.5, *BOX], [0, 1, 0.75, *BOX]]).double()[None, None]
    truth = torch.tensor([[0, 1, 0, *BOX, 1]]).double()[None, None]
    head = [[-1, 1, 1, -1, -1], [-1, 2, 0, -1, -1]]
    assert evaluator()(found, truth)[0, 0].tolist() == [*head, [0, 1, 0.75, 1, 0], [0, 1, 0.5, 0, 1]]
    head[0][2] = 0
    rows = evaluator("evaluate_difficult_gt: false")(found, truth)[0, 0].tolist()
    assert rows == [*head, [0, 1, 0.75, 0, 0], [0, 1, 0.5, 0, 0]]


def test_sizes_go_on_from_batch_to_batch(tmp_path: Path) -> None:
    (tmp_path / "sizes.txt").write_text(SIZES)
    layer = evaluator(f'name_size_file: "{tmp_path / "sizes.txt"}"')
    found, truth = torch.tensor([[0, 1, 0.5, *BOX]])[None, None], torch.tensor([[0, 1, 0, *FAR, 0]])[None, None]
    places = []
    for _ in range(3):
        places.append(layer.next_size)
        layer(found, truth)
    assert places == [0, 1, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("overlap_threshold: 0", "overlap_threshold is 0; expected more than 0"),
        ("resize_param { height: 3 }", "lacks height or width"),
        ('name_size_file: "/no/such/file"', "No such file"),
    ],
)
def test_refused_fields(fields: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        evaluator(fields)


@pytest.mark.parametrize(("text", "message"), [("a 1\n", ":1: expected a name, a height"), ("\n", "is empty")])
def test_refused_sizes(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sizes.txt").write_text(text)
    with pytest.raises(NetError, match=message):
        evaluator(f'name_size_file: "{tmp_path / "sizes.txt"}"')


def test_refused_shapes_and_labels() -> None:
    with pytest.raises(NetError, match="num_classes is missing"):
        make_layer(DetectionEvaluate, "", *SHAPES)
    with pytest.raises(NetError, match=r"detections have shape \(1, 1, 2, 8\); expected \(1, 1, rows, 7\)"):
        make_layer(DetectionEvaluate, "detection_evaluate_param { num_classes: 3 }", (1, 1, 2, 8), SHAPES[1])
    found, truth = torch.tensor([[0, 0, 0.5, *BOX]])[None, None], torch.tensor([[0, 1, 0, *FAR, 0]])[None, None]
    with pytest.raises(NetError, match="a detection has label 0, the background's"):
        evaluator()(found, truth)
