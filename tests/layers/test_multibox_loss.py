from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.layers.base import LayerContext
from caffe_compat.layers.multibox_loss import MultiBoxLoss
from caffe_compat.proto import caffe_pb2
from tests.layers.harness import make_layer, on_devices, tensor

GOLDEN = Path(__file__).parent.parent / "golden" / "forks" / "multibox_loss.npz"
CASES = 48
#: float32 sums in another order, relative to the largest value
TOLERANCE = 2e-6


@cache
def golden() -> dict[str, np.ndarray]:
    """What SSD's own layer computed; ``maker`` says which."""
    with np.load(GOLDEN) as file:
        return dict(file)


@on_devices
@pytest.mark.parametrize("number", range(CASES))
def test_as_ssd(number: int, device: str) -> None:
    found = golden()
    param = text_format.Parse(str(found["fields"][number]), caffe_pb2.LayerParameter(name="it", type="MultiBoxLoss"))
    param.top.append("loss")
    loc, conf, priors, truth = (
        torch.from_numpy(found[f"{number}_{name}"]).to(device) for name in ("loc", "conf", "priors", "truth")
    )
    layer = MultiBoxLoss(param, LayerContext())
    layer.setup(loc.shape, conf.shape, priors.shape, truth.shape)
    layer.infer_shapes(loc.shape, conf.shape, priors.shape, truth.shape)
    loss = layer(loc.requires_grad_(), conf.requires_grad_(), priors, truth)
    diffs = torch.autograd.grad(loss, (loc, conf), materialize_grads=True)
    for name, ours in zip(("loss", "loc_diff", "conf_diff"), (loss, *diffs), strict=True):
        theirs = found[f"{number}_{name}"]
        error = np.abs(ours.detach().cpu().numpy().ravel() - theirs).max()
        assert error <= TOLERANCE * max(1e-3, np.abs(theirs).max()), f"{name}: {found['fields'][number]}"


PRIORS = [[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9], [0.0, 0.5, 0.3, 0.9], [0.6, 0.0, 0.9, 0.2]]
VARIANCES = [[0.1, 0.1, 0.2, 0.2]] * 4
SHAPES = ((1, 16), (1, 12), (1, 2, 16), (1, 1, 1, 8))


def bottoms(*rows: list[float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loc, conf = tensor([[0.1] * 16]), tensor([[0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    return loc, conf, torch.tensor([[PRIORS, VARIANCES]]).double().reshape(1, 2, -1), torch.tensor([[rows]]).double()


def loss_layer(fields: str = "", more: str = "") -> MultiBoxLoss:
    return make_layer(MultiBoxLoss, f"multibox_loss_param {{ num_classes: 3 {fields} }} {more}", *SHAPES, phase="TRAIN")


def test_by_hand() -> None:
    """One box on the first prior: itself and the three hardest of the others, here all, count."""
    row = [0.0, 1.0, 0.0, *PRIORS[0], 0.0]
    given = bottoms(row)
    loss = loss_layer()(*given)
    log_sums = [np.log(2 + np.e), np.log(2 + np.e**2), np.log(np.e**3 + 2), np.log(3)]
    classes = (log_sums[0] - 1) + log_sums[1] + (log_sums[2] - 3) + log_sums[3]
    assert loss.item() == pytest.approx(classes + 4 * 0.5 * 0.1**2)
    diff = torch.autograd.grad(loss, given[0])[0]
    assert diff[0, :4].tolist() == pytest.approx([0.1] * 4)
    assert not diff[0, 4:].any()


def test_propagate_down_takes_a_part_out() -> None:
    given = bottoms([0.0, 1.0, 0.0, *PRIORS[0], 0.0])
    whole = loss_layer()(*given).item()
    parts = [
        loss_layer("", " ".join(f"propagate_down: {str(part).lower()}" for part in (*which, False, False)))(
            *given
        ).item()
        for which in ((True, False), (False, True))
    ]
    assert parts[0] == pytest.approx(0.02)
    assert sum(parts) == pytest.approx(whole)


def test_no_box_at_all_is_no_loss() -> None:
    assert loss_layer()(*bottoms([-1.0] * 8)).item() == 0


def test_numeric_gradient() -> None:
    given = bottoms([0.0, 1.0, 0.0, 0.12, 0.1, 0.42, 0.41, 0.0], [0.0, 2.0, 0.0, 0.5, 0.4, 0.9, 0.9, 0.0])
    assert torch.autograd.gradcheck(loss_layer("code_type: CENTER_SIZE overlap_threshold: 0.3"), given)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("share_location: false", "share_location is false with mining_type MAX_NEGATIVE"),
        ("background_label_id: 3", "background_label_id is 3; expected 0 to 2"),
        ("map_object_to_agnostic: true", "num_classes is 3 with map_object_to_agnostic; expected 2"),
        ("do_neg_mining: false", "do_neg_mining is False and mining_type MAX_NEGATIVE"),
        ("mining_type: HARD_EXAMPLE sample_size: 0", "sample_size is 0"),
        ("objectness_score: 0.1", "objectness_score"),
    ],
)
def test_refused_fields(fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        loss_layer(fields)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 12), *SHAPES[1:]), "loc has 12 values an image; expected 16 for 4 priors"),
        ((SHAPES[0], (1, 9), *SHAPES[2:]), "conf has 9 values an image; expected 12"),
        ((*SHAPES[:2], (1, 1, 16), SHAPES[3]), "priors have shape"),
        ((*SHAPES[:3], (1, 1, 1, 7)), "ground truth has shape"),
        (((2, 16), *SHAPES[1:]), "first dimension"),
    ],
)
def test_refused_shapes(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(MultiBoxLoss, "multibox_loss_param { num_classes: 3 }", *shapes)


@pytest.mark.parametrize(("label", "message"), [(0.0, "label 0, the background's"), (3.0, "label 3; expected 0 to 2")])
def test_refused_ground_truth(label: float, message: str) -> None:
    with pytest.raises(NetError, match=message):
        loss_layer()(*bottoms([0.0, label, 0.0, *PRIORS[0], 0.0]))


def test_num_classes_is_needed() -> None:
    with pytest.raises(NetError, match="num_classes is missing"):
        make_layer(MultiBoxLoss, "", *SHAPES)


def test_refused_priors() -> None:
    loc, conf, priors, truth = bottoms([0.0, 1.0, 0.0, *PRIORS[0], 0.0])
    priors[0, 0, 2] = priors[0, 0, 0]
    with pytest.raises(NetError, match="prior box has no width or height"):
        loss_layer("code_type: CENTER_SIZE")(loc, conf, priors, truth)
    priors[0, 1, 0] = 0
    with pytest.raises(NetError, match="variance of 0 or less"):
        loss_layer()(loc, conf, priors, truth)
