import math

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.margin_inner_product import MarginInnerProduct
from tests.layers.harness import make_layer, noise, on_devices, randomize, run, tensor

KINDS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}
TWO_TOPS = 'top: "y" top: "lambda"'


def psi(cosine: float, m: int) -> float:
    """(-1)^k cos(m angle) - 2 k, with the angle in [k pi / m, (k + 1) pi / m] (Liu et al. 2017)."""
    angle = math.acos(cosine)
    k = min(int(angle * m / math.pi), m - 1)
    sign = -1 if k % 2 else 1
    return sign * math.cos(m * angle) - 2 * k


def make(kind: str, more: str = "", device: str = "cpu", text: str = "") -> MarginInnerProduct:
    fields = f"num_output: 4 type: {kind} {more}"
    layer = make_layer(
        MarginInnerProduct, f"{text} margin_inner_product_param {{ {fields} }}", (6, 3), (6,), device=device
    )
    return randomize(layer)


LABELS = [0, 1, 2, 3, 1, 0]


@on_devices
@pytest.mark.parametrize("kind", KINDS)
def test_values(device: str, kind: str) -> None:
    layer = make(kind, "base: 10 gamma: 0.5 power: 2 iteration: 3", device, TWO_TOPS)
    x, labels = noise(6, 3, device=device), tensor(LABELS, device).detach()
    top, lambda_ = run(layer, x, labels)
    assert lambda_.item() == pytest.approx(10 / (1 + 0.5 * 4) ** 2)
    weight = noise(4, 3, seed=1).detach().numpy()
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    np.testing.assert_allclose(layer.blobs[0].detach().cpu().numpy(), weight, rtol=1e-12)  # in place
    features = x.detach().cpu().numpy()
    expected = features @ weight.T
    for i, label in enumerate(LABELS):
        if kind != "SINGLE":
            length = np.linalg.norm(features[i])
            hard = length * psi(expected[i, label] / length, KINDS[kind])
            expected[i, label] = (hard + lambda_.item() * expected[i, label]) / (1 + lambda_.item())
    np.testing.assert_allclose(top.detach().cpu().numpy(), expected, rtol=1e-9, atol=1e-12)


@on_devices
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_sphereface_s(device: str, kind: str) -> None:
    layer = make(kind, "base: 2", device)
    x, labels = noise(6, 3, device=device), tensor(LABELS, device).detach()
    diff = noise(6, 4, device=device, seed=5).detach()
    (top,) = run(layer, x, labels)
    x_diff, weight_diff = torch.autograd.grad(top, (x, layer.blobs[0]), diff)
    torch.testing.assert_close(weight_diff, diff.t() @ x)  # of a plain inner product
    weight = layer.blobs[0].detach()
    for i, label in enumerate(LABELS):
        plain = diff[i] @ weight
        if kind == "SINGLE":
            torch.testing.assert_close(x_diff[i], plain)
            continue
        # |x| psi(w x / |x|) by autograd: a w + b x.  SphereFace divides both factors by the length of (a, b).
        feature = x.detach()[i].clone().requires_grad_()
        length = feature.norm()
        cosine = feature @ weight[label] / length
        k = min(int(math.acos(cosine.item()) * KINDS[kind] / math.pi), KINDS[kind] - 1)
        hard = length * ((-1) ** k * torch.cos(KINDS[kind] * torch.acos(cosine)) - 2 * k)
        (true,) = torch.autograd.grad(hard, feature)
        basis = torch.stack([weight[label], feature.detach()], 1)
        factors = torch.linalg.lstsq(basis, true.unsqueeze(1)).solution.flatten()
        own = basis @ (factors / factors.norm())
        expected = plain + diff[i, label] * (own - weight[label]) / (1 + 2)
        torch.testing.assert_close(x_diff[i], expected)


def test_lambda_falls_to_its_least_and_counts_every_forward() -> None:
    layer = make("DOUBLE", "base: 100 gamma: 1 power: 1 lambda_min: 30", text=TWO_TOPS)
    labels = tensor(LABELS).detach()
    assert [run(layer, noise(6, 3), labels)[1].item() for _ in range(3)] == pytest.approx([50, 100 / 3, 30])


def test_a_compiled_layer_gives_the_same() -> None:
    layer, twin = make("QUADRUPLE", "base: 5"), make("QUADRUPLE", "base: 5")
    labels = tensor(LABELS).detach()
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(compiled, noise(6, 3), labels), run(layer, noise(6, 3), labels))
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", ((3, 2), (3,)), "num_output is missing or 0"),
        ("num_output: 3 axis: 0", ((3, 2), (3,)), "axis must be 1"),
        ("num_output: 3", ((3, 2), (2,)), "one label for each of the batch"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(MarginInnerProduct, f"margin_inner_product_param {{ {fields} }}", *shapes)
