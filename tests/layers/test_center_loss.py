import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.center_loss import CenterLoss
from tests.layers.harness import check_layer, make_layer, noise, on_devices, randomize, run, tensor

FIELDS = "center_loss_param { num_output: 3 }"


@on_devices
def test_value_and_the_features_gradient(device: str) -> None:
    layer = randomize(make_layer(CenterLoss, FIELDS, (4, 2, 2), (4,), device=device))
    features, labels = noise(4, 2, 2, device=device), tensor([2, 0, 2, 2], device).detach()
    centers = layer.blobs[0].detach().clone()
    layer.blobs[0].requires_grad_(False)  # its gradient is not the loss'
    check_layer(layer, features, labels)
    distance = features.flatten(1) - centers[labels.long()]
    torch.testing.assert_close(run(layer, features, labels)[0], (distance**2).sum() / 8, rtol=1e-6, atol=0)


@on_devices
def test_the_centres_gradient_is_their_own_rule(device: str) -> None:
    layer = make_layer(CenterLoss, FIELDS, (3, 1), (3,), device=device)
    layer.blobs[0].data.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    (loss,) = run(layer, tensor([[5.0], [9.0], [6.0]], device), tensor([0, 2, 0], device).detach())
    assert loss.item() == (16 + 36 + 25) / 6
    # (1 - 5 + 1 - 6) / (1 + 2), nothing, (3 - 9) / (1 + 1); the loss' weight does not count
    (7 * loss).backward()
    assert layer.blobs[0].grad is not None
    assert layer.blobs[0].grad.flatten().tolist() == [-3, 0, -3]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", ((3, 2), (3,)), "num_output is missing or 0"),
        ("num_output: 3 distance_type: 'L1'", ((3, 2), (3,)), 'distance_type is "L1"; expected "L2"'),
        ("num_output: 3", ((3, 2), (3, 2)), "one label for each of the batch"),
        ("num_output: 3 axis: 2", ((3, 2), (3,)), "center_loss_param.axis is 2"),
        ("num_output: 3 axis: -1", ((3, 2, 2), (3,)), "expected 2 values and one label"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(CenterLoss, f"center_loss_param {{ {fields} }}", *shapes)


def test_labels_out_of_range_are_refused() -> None:
    layer = make_layer(CenterLoss, FIELDS, (1, 1), (1,))
    with pytest.raises(NetError, match="label 3 is out of range; expected 0 to 2"):
        layer(noise(1, 1), tensor([3.0]).detach())
