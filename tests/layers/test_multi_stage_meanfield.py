import json
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.layers.multi_stage_meanfield import MultiStageMeanfield
from caffe_compat.proto import parse_net
from tests.layers.harness import make_layer, noise, on_devices, randomize, run

MEASURED = json.loads((Path(__file__).parent / "crf_rnn.json").read_text())["meanfield"]
#: CRF-RNN filters in float32
TOLERANCE = 1e-6
SHAPES = ((2, 2, 2, 2), (2, 2, 2, 2), (2, 3, 2, 2))
FIELDS = "num_iterations: 2 theta_alpha: 2 theta_beta: 0.5 theta_gamma: 1.5"


def make(fields: str, *shapes: tuple[int, ...], device: str = "cpu") -> MultiStageMeanfield:
    text = f"multi_stage_meanfield_param {{ {fields} }}"
    return make_layer(MultiStageMeanfield, text, *(shapes or SHAPES), device=device)


@on_devices
def test_with_crf_rnn_s_lattice(device: str) -> None:
    names = ("theta_alpha", "theta_beta", "theta_gamma", "num_iterations")
    fields = " ".join(f"{name}: {MEASURED[name]}" for name in names)
    n, c, h, w = shape = tuple(MEASURED["shape"])
    layer = make(fields, shape, shape, (n, 3, h, w), device=device)
    for blob, name in zip(layer.blobs, ("spatial", "bilateral", "compatibility"), strict=True):
        blob.data.copy_(torch.tensor(MEASURED[name]).reshape(1, 1, c, c))
    bottoms = [
        torch.tensor(MEASURED[name], dtype=torch.float64, device=device).reshape(n, -1, h, w)
        for name in ("unary", "start", "image")
    ]
    for dtype in (torch.float64, torch.float32):
        (top,) = run(layer.to(dtype), *(bottom.to(dtype) for bottom in bottoms))
        expected = np.array(MEASURED["scores"]).reshape(shape)
        error = np.abs(top.detach().cpu().numpy() - expected).max() / np.abs(expected).max()
        assert error <= TOLERANCE


@on_devices
def test_gradients(device: str) -> None:
    layer = randomize(make(FIELDS, device=device))
    unary, start, image = (noise(*shape, device=device, seed=i) for i, shape in enumerate(SHAPES))
    one = [x[:1].detach().requires_grad_() for x in (unary, start)]
    assert torch.autograd.gradcheck(lambda a, b, *_: run(layer, a, b, image[:1].detach()), (*one, *layer.blobs))
    (top,) = run(layer, unary, start, image)
    assert torch.autograd.grad(top.sum(), image, allow_unused=True)[0] is None
    alone = [run(layer, *(x[i : i + 1] for x in (unary, start, image)))[0] for i in (0, 1)]
    torch.testing.assert_close(torch.cat(alone), top)


def test_first_weights() -> None:
    weights = [blob[0, 0].diagonal().tolist() for blob in make(FIELDS).blobs]
    assert weights == [[1, 1], [1, 1], [-1, -1]]
    fields = f"{FIELDS} spatial_filter_weight: 3 bilateral_filter_weights_str: '4 5'"
    spatial, bilateral, _ = (blob[0, 0] for blob in make(fields).blobs)
    assert torch.equal(spatial, 3 * torch.eye(2, dtype=torch.float64))
    assert bilateral.tolist() == [[4, 0], [0, 5]]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("num_iterations: 1", SHAPES, "num_iterations is 1; expected at least 2"),
        (FIELDS.replace("alpha: 2", "alpha: 0"), SHAPES, "expected above 0"),
        (FIELDS, (*SHAPES[:2], (2, 1, 2, 2)), r"\(N, C, H, W\) twice and \(N, 3, H, W\)"),
        (
            f"{FIELDS} spatial_filter_weights_str: '1 2 3'",
            SHAPES,
            "is '1 2 3'; expected one number, or",
        ),
        (f"{FIELDS} spatial_filter_weights_str: 'a'", SHAPES, "is 'a'; expected one number"),
    ],
)
def test_refusals(fields: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make(fields, *shapes)


def test_colours_too_far_apart_are_refused() -> None:
    layer = make(FIELDS.replace("beta: 0.5", "beta: 1e-9"))
    with pytest.raises(NetError, match="too many of the thetas"):
        layer(*(noise(*shape) for shape in SHAPES))


def test_a_forced_weight_draws_a_warning() -> None:
    with pytest.warns(UserWarning, match="forced_spatial_filter_weight has no effect, as in CRF-RNN"):
        make(f"{FIELDS} forced_spatial_filter_weight: 1")


def test_a_v1_net_of_crf_rnn() -> None:
    inputs = 'input: "u" input_dim: 1 input_dim: 2 input_dim: 2 input_dim: 2 '
    inputs += 'input: "data" input_dim: 1 input_dim: 3 input_dim: 2 input_dim: 2 '
    fields = (
        f"multi_stage_meanfield_param {{ {FIELDS} compatibility_mode: POTTS threshold: 2 spatial_filter_weight: 3 }}"
    )
    blobs = 'bottom: "u" bottom: "u" bottom: "data" top: "pred" blobs_lr: 0.001'
    net = parse_net(f"{inputs} layers {{ type: MULTI_STAGE_MEANFIELD name: 'crf' {blobs} {fields} }}")
    layer = Net(net, phase="TEST").layers["crf"]
    assert isinstance(layer, MultiStageMeanfield)
    assert layer.blobs[0][0, 0].tolist() == [[3, 0], [0, 3]]
