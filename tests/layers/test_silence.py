from caffe_compat.layers.silence import Silence
from tests.layers.harness import make_layer, noise, on_devices


@on_devices
def test_has_no_tops(device: str) -> None:
    layer = make_layer(Silence, "", (2, 3), (4,), device=device)
    assert layer.infer_shapes((2, 3), (4,)) == []
    assert layer(noise(2, 3, device=device), noise(4, device=device)) == ()
