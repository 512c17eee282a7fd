import math

from caffe_compat.layers.threshold import Threshold
from tests.layers.harness import check_layer, make_layer, noise, on_devices, run, tensor


@on_devices
def test_layer(device: str) -> None:
    layer = make_layer(Threshold, "threshold_param { threshold: 0.5 }", (3, 4), device=device)
    check_layer(layer, noise(3, 4, device=device), differentiable=False)


def test_the_threshold_itself_is_not_above() -> None:
    top = run(make_layer(Threshold, "", (4,)), tensor([-1.0, 0.0, 1e-9, math.nan]))[0]
    assert top.tolist() == [0, 0, 1, 0]
