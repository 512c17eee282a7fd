import numpy as np
import pytest
import torch

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.upsample import Upsample
from caffe_compat.net.blob_engine import BlobEngine
from caffe_compat.proto import parse_net
from tests.layers.harness import check_layer, gradient, make_layer, noise, on_devices, run, tensor
from tests.layers.onnx_form import check_onnx, numbers


@on_devices
@pytest.mark.parametrize("shape", [(2, 3, 2, 3), (2, 3), (2, 2, 2, 3, 2)])
def test_nearest(device: str, shape: tuple[int, ...]) -> None:
    layer = make_layer(Upsample, "upsample_param { scale: 3 }", shape, device=device)
    bottom = noise(*shape, device=device)
    check_layer(layer, bottom)
    expected = np.kron(bottom.detach().cpu().numpy(), np.ones((3, 3)))
    np.testing.assert_array_equal(run(layer, bottom)[0].detach().cpu().numpy(), expected)


def test_nearest_without_a_scale_is_the_identity() -> None:
    # YOLO's default; SegNet's form has 2.
    assert torch.equal(run(make_layer(Upsample, "", (2, 2)), noise(2, 2))[0], noise(2, 2))


@on_devices
@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("", (4, 6)),
        ("scale: 2 pad_out_h: true", (3, 6)),
        ("scale_h: 2 scale_w: 3 pad_out_h: true", (3, 9)),
        ("upsample_h: 5 upsample_w: 7", (5, 7)),
        ("upsample_h: 5 upsample_w: 7 scale: 3", (5, 7)),
    ],
)
def test_by_mask(device: str, fields: str, sizes: tuple[int, int]) -> None:
    layer = make_layer(Upsample, f"upsample_param {{ {fields} }}", (2, 2, 2, 3), (2, 2, 2, 3), device=device)
    bottom = noise(2, 2, 2, 3, device=device)
    places = [torch.randperm(sizes[0] * sizes[1], generator=torch.Generator().manual_seed(i))[:6] for i in range(4)]
    mask = torch.stack(places).reshape(2, 2, 2, 3).to(device, torch.float64)
    check_layer(layer, bottom, mask)
    top = run(layer, bottom, mask)[0].detach().cpu().numpy()
    expected = np.zeros((2, 2, *sizes))
    for n, c, h, w in np.ndindex(2, 2, 2, 3):
        row, column = divmod(int(mask[n, c, h, w]), sizes[1])
        expected[n, c, row, column] = bottom.detach()[n, c, h, w]
    np.testing.assert_array_equal(top, expected)


def test_the_gradient_is_read_at_the_mask() -> None:
    layer = make_layer(Upsample, "", (1, 1, 1, 2), (1, 1, 1, 2))
    mask = torch.tensor([[[[5.0, 2.0]]]], dtype=torch.float64)
    top_diff = [[[[0.0, 1, 2, 3], [4, 5, 6, 7]]]]
    assert gradient(lambda x: layer(x, mask), tensor([[[[1.0, 1.0]]]]), top_diff) == [5, 2]


def test_undoes_max_pooling() -> None:
    pool = make_layer(Pooling, 'top: "p" top: "mask" pooling_param { kernel_size: 2 stride: 2 }', (2, 3, 4, 6))
    bottom = noise(2, 3, 4, 6).detach()
    pooled, mask = run(pool, bottom)
    (top,) = run(make_layer(Upsample, "", (2, 3, 2, 3), (2, 3, 2, 3)), pooled, mask)
    largest = torch.nn.functional.max_pool2d(bottom, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(top, torch.where(bottom == largest, bottom, 0))


def test_caffe_s_engine_goes_back_past_the_mask() -> None:
    # The mask's layer has a gradient, the mask itself none.
    text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 4 } } }'
    text += 'layer { name: "c" type: "Power" bottom: "x" top: "c" power_param { scale: 3 } }'
    pool = "pooling_param { kernel_size: 2 stride: 2 }"
    text += f'layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" top: "m" {pool} }}'
    text += 'layer { name: "u" type: "Upsample" bottom: "p" bottom: "m" top: "u" }'
    net = Net(parse_net("force_backward: true " + text), phase="TRAIN")
    engine = BlobEngine(net)
    x, u = (engine.blobs[net.blob_names.index(name)] for name in ("x", "u"))
    x.data.copy_(torch.arange(8.0).reshape(1, 1, 2, 4))
    engine.forward()
    u.diff.copy_(torch.arange(10.0, 18.0).reshape(1, 1, 2, 4))
    engine.backward()
    assert x.diff.tolist() == [[[[0, 0, 0, 0], [0, 45, 0, 51]]]]


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ("scale: 0", 1, "upsample_param.scale is 0"),
        ("scale: 2 upsample_h: 4", 1, "upsample_param.upsample_h is for the form with a mask"),
        ("upsample_h: 1 upsample_w: 4", 2, "expected at least 2"),
        ("scale: 1", 2, "expected at least 2"),
        ("scale_h: 2", 2, "needs upsample_h and upsample_w, or scale, or scale_h and scale_w"),
        ("scale: 2 scale_h: 2 scale_w: 2", 2, "needs upsample_h and upsample_w, or scale"),
        ("scale: 3 pad_out_h: true", 2, "are for scale 2"),
    ],
)
def test_refusals(fields: str, bottoms: int, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(Upsample, f"upsample_param {{ {fields} }}", *[(1, 1, 2, 2)] * bottoms)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(NetError, match="a mask of the same shape"):
        make_layer(Upsample, "", (1, 1, 2, 2), (1, 1, 2, 3))


def test_places_outside_the_top_are_refused() -> None:
    layer = make_layer(Upsample, "", (1, 1, 1, 1), (1, 1, 1, 1))
    with pytest.raises(NetError, match="place in the mask 4 is out of range; expected 0 to 3"):
        layer(tensor([[[[1.0]]]]), torch.tensor([[[[4.0]]]]))


def test_onnx() -> None:
    check_onnx('type: "Upsample" upsample_param { scale: 3 }', numbers(2, 2, 2, 3))
    mask = np.array([[[[5, 2]], [[0, 7]]]], np.float32)
    check_onnx('type: "Upsample"', numbers(1, 2, 1, 2), mask)
