import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.mvn import MVN
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run


@on_devices
@pytest.mark.parametrize("fields", ["", "across_channels: true", "normalize_variance: false"])
def test_layer(device: str, fields: str) -> None:
    layer = make_layer(MVN, f"mvn_param {{ {fields} }}", (2, 3, 4, 5), device=device)
    bottom = noise(2, 3, 4, 5, device=device)
    check_layer(layer, bottom)
    axes = (1, 2, 3) if "across" in fields else (2, 3)
    (top,) = run(layer, bottom)
    assert top.mean(axes).abs().max() < 1e-12
    if "variance" not in fields:
        torch.testing.assert_close(top.var(axes, correction=0), torch.ones_like(top.mean(axes)))


def test_gradient_with_a_large_eps_is_caffes() -> None:
    layer = make_layer(MVN, "mvn_param { eps: 0.5 }", (1, 1, 2, 3))
    bottom, diff = noise(1, 1, 2, 3), noise(1, 1, 2, 3, seed=1).detach()
    (top,) = run(layer, bottom)
    (grad,) = torch.autograd.grad(top, bottom, diff)
    # Caffe: the gradient of x / std, with std + eps in place of std
    diff = diff - top * (top * diff).mean()
    torch.testing.assert_close(grad, (diff - diff.mean()) / (bottom.std(correction=0) + 0.5))


def test_few_axes_become_four() -> None:
    assert make_layer(MVN, "", (2, 3)).infer_shapes((2, 3)) == [(2, 3, 1, 1)]
    assert run(make_layer(MVN, "", (2, 3)), noise(2, 3))[0].abs().max() == 0


def test_refuses_five_axes() -> None:
    with pytest.raises(NetError, match=r"\(1, 2, 3, 4, 5\); expected at most 4 axes"):
        make_layer(MVN, "", (1, 2, 3, 4, 5))
