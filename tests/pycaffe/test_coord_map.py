"""How coordinates lie to each other, and the Crop that follows."""

import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from caffe_compat.pycaffe.net_spec import Top


def conv_pool_up(pool: int = 2, up: int = 2, pad: int = 0) -> tuple[Top, Top]:
    """An input, and its convolution 3x3, pooled, and enlarged again by 2x windows."""
    data = L.Input(shape={"dim": [1, 1, 50, 50]})
    pooled = L.Pooling(L.Convolution(data, num_output=1, kernel_size=3, pad=pad), kernel_size=pool, stride=pool)
    return data, L.Deconvolution(
        L.ReLU(pooled), convolution_param={"num_output": 1, "kernel_size": 2 * up, "stride": up}
    )


@pytest.mark.parametrize(("pool", "pad", "shift"), [(2, 0, 0), (4, 0, -1), (2, 5, -5), (2, 1, -1)])
def test_maps_through_a_net(pool: int, pad: int, shift: int) -> None:
    data, up = conv_pool_up(pool, pool, pad)
    axis, scale, offset = coord_map_from_to(up, data)
    assert (axis, scale, offset) == (1, 1, -pad + {2: 0, 4: -1}[pool])
    assert offset == shift


def test_the_crop_is_the_one_that_fits() -> None:
    data, up = conv_pool_up(2, 2, pad=30)
    top = crop(up, data)
    assert top.fn.type_name == "Crop"
    assert top.fn.params["crop_param"] == {"axis": 2, "offset": [30]}
    assert top.to_proto().layer[-1].crop_param.offset == [30]
    axis, _, shift = coord_map_from_to(top, data)
    assert (axis, shift) == (1, 0)


def test_maps_with_several_axes() -> None:
    data = L.Input(shape={"dim": [1, 1, 50, 50]})
    conv = L.Convolution(data, num_output=1, kernel_size=[3, 5], stride=[1, 2], pad=[0, 10], dilation=[2, 1])
    axis, scale, shift = coord_map(conv.fn)
    assert axis == 1
    assert scale.tolist() == [1, 0.5]
    assert shift.tolist() == [-2, 4]
    assert np.array(inverse((axis, scale, shift))[2]).tolist() == [2, -8]


def test_what_has_no_map() -> None:
    data, up = conv_pool_up()
    with pytest.raises(UndefinedMapException, match="InnerProduct has no map"):
        coord_map(L.InnerProduct(data, num_output=1).fn)
    with pytest.raises(RuntimeError, match="no map between these tops"):
        coord_map_from_to(L.InnerProduct(up, num_output=1), data)
    with pytest.raises(AxisMismatchException, match="from axis 1 and from axis 2"):
        compose((1, 1, 0), (2, 1, 0))
    with pytest.raises(AssertionError, match="kernel_h cannot be mapped"):
        coord_map(L.Pooling(data, kernel_size=2, kernel_h=1).fn)


def test_crops_that_cannot_be() -> None:
    data, up = conv_pool_up(pool=3, up=2)
    with pytest.raises(AssertionError, match="the scales differ"):
        crop(up, data)
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 50, 50]})
    n.small = L.Convolution(n.data, num_output=1, kernel_size=3)
    with pytest.raises(AssertionError, match="is negative, the blob to be cropped is the smaller one"):
        crop(n.small, n.data)
    n.half = L.Convolution(n.data, num_output=1, kernel_size=2, pad=3)
    with pytest.raises(AssertionError, match="no whole number"):
        crop(n.half, n.data)
